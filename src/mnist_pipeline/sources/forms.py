"""What the images of a dataset look like to a network: their size and colour follow from the pictures themselves."""

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from mnist_pipeline.data.catalogue import are_digits
from mnist_pipeline.data.dataset import DataError
from mnist_pipeline.reading import SIDE, Form, border_of, fit_picture

LARGEST_BY_ITSELF = 32  # pixels; larger images take longer, so a person asks for them
LEAST_COLOUR = 0.03  # half of the pictures of hands and of CIFAR-10 have 0.05 or more, of digits on paper 0.013
BLACK = 32  # a border below this is black
MOST_LOOKED_AT = 1000  # training pictures, evenly chosen
MOSTLY = 0.9  # of the pictures stand on black, where the dataset is said to


class Wanted(NamedTuple):
    """What params.yaml asks for; None: as the images suggest."""

    reader: str | None = None
    image_size: int | None = None
    colour: str | None = None


class Look(NamedTuple):
    """What a picture looks like."""

    side: float  # the larger of height and width, in pixels
    colour: float  # how far colours lie from the picture's own tint (lamplight is no colour), root mean square, 0..1
    border: float  # mean brightness of the border, 0..255


def choose_step(pictures: int) -> int:
    """Every how many-th of so many pictures is looked at."""
    return max(1, math.ceil(pictures / MOST_LOOKED_AT))


def look_at(pixels: np.ndarray, scale: float = 1.0) -> Look:
    """Measure a picture uint8 (h, w) or (h, w, 3) that was reduced by `scale`."""
    side = max(pixels.shape[:2]) * scale
    if pixels.ndim == 2:
        return Look(side, 0.0, float(border_of(pixels).mean()))
    values = pixels[:: max(1, len(pixels) // 64), :: max(1, pixels.shape[1] // 64)].astype(np.float32) / 255
    chroma = values - values.mean(2, keepdims=True)
    spread = (chroma - chroma.mean((0, 1))) ** 2
    return Look(side, float(spread.sum(2).mean() ** 0.5), float(border_of(pixels).mean()))


def choose_form(looks: Iterable[Look], class_names: Sequence[str], wanted: Wanted) -> Form:
    """Choose how pictures become images: what is asked for, and for the rest what most `looks` suggest.

    Handwriting is chosen by itself only for grey pictures whose classes are digits. Raises DataError where it is asked
    for in colour or in another size.
    """
    seen = list(looks)
    coloured = median(look.colour for look in seen) >= LEAST_COLOUR
    colour = wanted.colour or ("rgb" if coloured and wanted.reader != "handwriting" else "grey")
    can_be_handwriting = colour == "grey" and wanted.image_size in (None, SIDE)
    reader = wanted.reader or ("handwriting" if can_be_handwriting and are_digits(class_names) else "picture")
    if reader == "handwriting":
        return check_form(Form(reader, wanted.image_size or SIDE, colour))
    size = wanted.image_size or min(max(4 * round(median(look.side for look in seen) / 4), 16), LARGEST_BY_ITSELF)
    on_black = colour == "grey" and sum(look.border < BLACK for look in seen) >= MOSTLY * len(seen)
    return Form(reader, size, colour, on_black)


def check_form(form: Form) -> Form:
    """Return a form that is possible; raises DataError for handwriting that is not grey and 28x28."""
    if form.reader == "handwriting" and (form.size, form.colour) != (SIDE, "grey"):
        raise DataError(
            f"data.reader is handwriting, which is read as grey images of {SIDE}x{SIDE}; set it to picture for "
            f"data.image_size = {form.size} and data.colour = {form.colour}"
        )
    return form


def fit_all(images: np.ndarray, form: Form) -> np.ndarray:
    """Bring images (n, h, w) or (n, h, w, 3) into a form: uint8 (n, C, S, S). None is inverted."""
    if images.shape[1:] == (form.size, form.size) and form.colour == "grey":
        return images[:, None]
    return np.stack([fit_picture(image, form._replace(on_black=False)) for image in images])
