"""Where datasets come from: public mirrors, or the user's own images in folders or an .npz file."""
