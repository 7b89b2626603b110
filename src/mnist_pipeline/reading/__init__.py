"""Reads pictures: the bytes of a file -> the 28x28 image that a network is given.

decoding.py decodes the file, paper.py measures the ink, handwriting.py finds the digit. The folder travels in the
archive under another package's name, so it needs numpy, OpenCV and Pillow only and imports nothing of this project.
"""

from .decoding import FORMATS, SIDE, NotAnImage, read_picture
from .handwriting import NothingToRead, read_digit

# The ways in which a model's pictures are read. Its model_info.json names one of them.
READERS = {"handwriting": read_digit, "picture": read_picture}

__all__ = ["FORMATS", "READERS", "SIDE", "NotAnImage", "NothingToRead", "read_digit", "read_picture"]
