"""Datasets: what is known of each, downloading, one's own images, loading."""
