"""From handwritten-digit data to a tuned, measured, served model."""
