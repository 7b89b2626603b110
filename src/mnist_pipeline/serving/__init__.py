"""The exported network, the archive, and the servers that answer from it."""
