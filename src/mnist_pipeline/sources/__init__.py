"""Where datasets come from: public mirrors, or the user's own images in folders, CSV, npz or IDX files."""
