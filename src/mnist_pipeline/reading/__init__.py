"""Reads pictures: the bytes of a file -> the images that a network is given.

decoding.py decodes the file, paper.py measures the ink, components.py tells the digits apart, normalisation.py draws
each as MNIST would, touching.py cuts those that touch, handwriting.py puts it together; picture.py scales a whole
picture instead. Functions take bytes and return arrays, so that they can run in another process, which is killed where
one takes too long. The folder travels in the archive under another package's name, so it imports only numpy, OpenCV,
Pillow and centring.py.
"""
# ruff: noqa: F401  what the package offers

from ..centring import SIDE
from .components import NothingToRead
from .decoding import FORMATS, NotAnImage, TooMuchWork, border_of, decode
from .handwriting import find_parts, read_digit, read_digits, read_otherwise
from .normalisation import Item, Parts
from .picture import Form, fit_picture, read_image
