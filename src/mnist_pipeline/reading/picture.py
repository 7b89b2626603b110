"""The bytes of a picture -> an image of a network that classifies whole pictures, in its size and colour."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from .decoding import border_of, decode, to_grey
from .handwriting import read_digit


class Form(NamedTuple):
    """How a picture becomes an image of a network."""

    reader: str = "handwriting"  # a character is found and laid out as MNIST's; "picture": the whole is scaled
    size: int = 28  # height and width of the image in pixels, a multiple of 4 from 16 to 64
    colour: str = "grey"  # or "rgb"
    on_black: bool = False  # the training images stand on black: a picture with a bright border is inverted

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return 3 if self.colour == "rgb" else 1, self.size, self.size


def read_image(picture: bytes, form: Form, *, limited: bool = True) -> np.ndarray:
    """Read a picture as a network of this form sees it: uint8 `form.shape`. Raises NotAnImage, NothingToRead."""
    if form.reader == "handwriting":
        return read_digit(picture, limited=limited)[None]
    return fit_picture(decode(picture, limited=limited).pixels, form)


def fit_picture(pixels: np.ndarray, form: Form) -> np.ndarray:
    """Make pixels uint8 (h, w) or (h, w, 3) square with the mean colour of the border, and scale with antialiasing."""
    if form.colour == "grey":
        pixels = to_grey(pixels)
    elif pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, 2)
    border = border_of(pixels)
    mean = np.atleast_1d(border.mean(0).round().astype(int)).tolist()
    fill = tuple(mean) if form.colour == "rgb" else mean[0]
    square = ImageOps.pad(Image.fromarray(pixels), (form.size, form.size), Image.Resampling.LANCZOS, color=fill)
    image = np.asarray(square).reshape(form.size, form.size, -1).transpose(2, 0, 1)
    return 255 - image if form.on_black and np.median(border) > 127 else np.ascontiguousarray(image)
