"""The bytes of a picture -> an image of a network that classifies whole pictures, in its size and colour."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from .decoding import border_of, decode, to_grey
from .handwriting import read_digit


class Form(NamedTuple):
    """How a picture becomes an image of a network.

    Attributes:
        reader: "handwriting": a character is found, lifted off its paper and laid out as MNIST's are, grey and 28x28;
            "picture": the whole picture is scaled.
        size: height and width of the image in pixels, a multiple of 4 from 16 to 64.
        colour: "grey" or "rgb".
        on_black: whether the training images stand on black: a picture with a bright border is then inverted.
    """

    reader: str = "handwriting"
    size: int = 28
    colour: str = "grey"
    on_black: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return 3 if self.colour == "rgb" else 1, self.size, self.size


def read_image(picture: bytes, form: Form, *, limited: bool = True) -> np.ndarray:
    """Read a picture as a network of this form sees it.

    Args:
        picture, limited: as for decoding.decode.
        form: of the network's images.

    Returns:
        uint8 `form.shape`, 0 to 255.

    Raises:
        NotAnImage: the bytes cannot be decoded.
        NothingToRead: there is no character in the picture; of the reader "handwriting" alone.
    """
    if form.reader == "handwriting":
        return read_digit(picture, limited=limited)[None]
    return fit_picture(decode(picture, limited=limited).pixels, form)


def fit_picture(pixels: np.ndarray, form: Form) -> np.ndarray:
    """Make a picture square with the mean colour of its border, and scale it with antialiasing.

    Args:
        pixels: uint8 (h, w) or, in RGB, (h, w, 3).
        form: its reader is not used.

    Returns:
        uint8 `form.shape`. A picture that has this form already is returned unchanged, unless it is inverted.
    """
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
