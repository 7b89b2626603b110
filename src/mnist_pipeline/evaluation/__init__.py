"""What the archived model does on the test images, in figures and pictures."""
