"""Pictures as they are sent: a PNG of an image, the number that is read in one, and what the network saw of each."""

import io
from collections.abc import Sequence
from math import ceil, sqrt
from textwrap import fill
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from mnist_pipeline.serving.answer import Found


def to_picture(image: np.ndarray) -> Image.Image:
    """An image, uint8 (h, w) or (C, S, S), as Pillow's."""
    pixels = image if image.ndim == 2 else image.transpose(1, 2, 0)
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels)


def encode_png(image: np.ndarray) -> bytes:
    """An image uint8 (h, w) or (C, S, S) as a PNG."""
    file = io.BytesIO()
    to_picture(image).save(file, "PNG")
    return file.getvalue()


def read_number(found: Sequence[Found], class_names: Sequence[str]) -> str:
    """The names of the classes that were found, from left to right; "" if nothing was."""
    return "".join(class_names[int(one.probabilities.argmax())] for one in found)


class Shown(NamedTuple):
    """A picture on a contact sheet."""

    image: bytes  # encoded
    title: str
    seen: Sequence[np.ndarray] | str  # by the network, uint8 (h, w) or (C, S, S), or the reason why there is nothing


def contact_sheet(pictures: Sequence[Shown], side: int = 160, columns: int = 6) -> Image.Image:
    """Draw pictures in rows, each in a square of `side` pixels, and next to it what the network saw of it."""
    rows = ceil(len(pictures) / columns)
    result = Image.new("RGB", (columns * 2 * side, rows * (side + 14)), (96, 96, 96))
    pen = ImageDraw.Draw(result)
    for i, shown in enumerate(pictures):
        x, y = i % columns * 2 * side, i // columns * (side + 14)
        upright = thumbnail(shown.image, side - 4)
        result.paste(upright, (x + 2, y + 14), upright)
        pen.text((x + 2, y + 1), shown.title, fill="white")
        if isinstance(shown.seen, str):
            pen.multiline_text((x + side, y + side // 3), fill(shown.seen, 25), fill="white")
            continue
        across = ceil(sqrt(len(shown.seen)))
        small = (side - 4) // across
        for k, image in enumerate(shown.seen):
            seen = to_picture(image).resize((small, small), Image.Resampling.NEAREST)
            result.paste(seen, (x + side + k % across * small, y + 14 + k // across * small))
    return result


def thumbnail(image: bytes, side: int) -> Image.Image:
    """An encoded picture, upright, in a square of `side` pixels; grey where it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(image)) as opened:
            return ImageOps.contain(ImageOps.exif_transpose(opened).convert("RGBA"), (side, side))
    except Exception:  # what Pillow raises on damaged files
        return Image.new("RGBA", (side, side), (64, 64, 64, 255))
