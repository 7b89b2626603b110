"""The network, how it is trained, and the saved model."""
