"""Reads pictures: the bytes of a file -> the 28x28 images that a network is given.

decoding.py decodes the file, paper.py measures the ink, components.py tells the digits apart, normalisation.py draws
each as MNIST would, touching.py cuts those that touch, handwriting.py puts it together. Functions take bytes and return
arrays, so that they can run in another process, which is killed where one takes too long. The folder travels in the
archive under another package's name, so it imports only numpy, OpenCV, Pillow and centring.py.
"""

from ..centring import SIDE
from .components import MAX_DIGITS, NothingToRead
from .decoding import FORMATS, NotAnImage, TooMuchWork, read_picture
from .handwriting import find_parts, read_digit, read_digits, read_otherwise
from .normalisation import Item, Parts

# The ways in which a model's pictures are read. Its model_info.json names one of them.
READERS = {"handwriting": read_digit, "picture": read_picture}

__all__ = [
    "FORMATS",
    "MAX_DIGITS",
    "READERS",
    "SIDE",
    "Item",
    "NotAnImage",
    "NothingToRead",
    "Parts",
    "TooMuchWork",
    "find_parts",
    "read_digit",
    "read_digits",
    "read_otherwise",
    "read_picture",
]
