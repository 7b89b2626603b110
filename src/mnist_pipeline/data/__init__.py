"""Datasets: what is known of each, loading, the hold-out, and the IDX format."""
