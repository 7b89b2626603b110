"""Reads pictures: the bytes of a file -> the 28x28 images that a network is given.

decoding.py decodes the file, paper.py measures the ink, components.py tells the digits apart, touching.py cuts those
that touch, handwriting.py puts it together and draws each digit. The folder travels in the archive under another
package's name, so it needs numpy, OpenCV and Pillow only and imports nothing of this project but centring.py.
"""

from ..centring import SIDE
from .components import MAX_DIGITS, NothingToRead
from .decoding import FORMATS, NotAnImage, Spend, TooMuchWork, read_picture, spend_freely
from .handwriting import Item, Reading, read_digit, read_digits

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
    "Reading",
    "Spend",
    "TooMuchWork",
    "read_digit",
    "read_digits",
    "read_picture",
    "spend_freely",
]
