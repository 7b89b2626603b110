"""Digits in pen strokes, drawn in any size, place and colour; and how a reading of them is checked."""

import functools
import io
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mnist_pipeline.reading import read_digit

Strokes = list[list[tuple[float, float]]]

# Pen strokes in a box of 1 by 1, drawn with round ends. They are told apart at 28x28 without a network.
FOUR = [[(0.15, 0.0), (0.05, 0.6), (0.75, 0.6)], [(0.6, 0.25), (0.55, 1.0)]]
SEVEN = [[(0.05, 0.05), (0.75, 0.0), (0.35, 1.0)], [(0.25, 0.5), (0.7, 0.48)]]
TWO = [[(0.05, 0.2), (0.3, 0.0), (0.6, 0.1), (0.62, 0.35), (0.0, 1.0), (0.75, 0.95)]]
DIGITS = {"four": FOUR, "seven": SEVEN, "two": TWO}

Colour = float | tuple[int, ...] | str


def draw_digit(
    strokes: Strokes = SEVEN,
    size: tuple[int, int] = (400, 300),
    height: float = 150,
    at: tuple[float, float] = (130, 70),
    pen: float = 12,
    ink: Colour = 20,
    paper: Colour = 245,
    mode: str = "L",
) -> Image.Image:
    """Draw a digit in pen strokes, its upper left corner at a place in pixels."""
    times = 4 if max(size) < 1000 else 1  # small pictures are drawn larger, so that edges are smooth
    fine = Image.new(mode, (times * size[0], times * size[1]), paper)
    draw = ImageDraw.Draw(fine)
    radius = times * pen / 2
    for stroke in strokes:
        points = [(times * (at[0] + x * height), times * (at[1] + y * height)) for x, y in stroke]
        draw.line(points, ink, round(times * pen), joint="curve")
        for x, y in points:
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], ink)
    return fine.resize(size, Image.Resampling.BOX)


def encode(picture: Any, form: str = "PNG", **options: Any) -> bytes:
    """A file of a picture, or of an array or tensor (h, w) or (h, w, channels)."""
    file = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))
    image.save(file, form, **options)
    return file.getvalue()


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two pictures, at the best of nine shifts by at most a pixel."""
    shifts = [np.roll(b, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return max(float(np.corrcoef(a.ravel(), shifted.ravel())[0, 1]) for shifted in shifts)


def assert_reads_as(image: bytes, strokes: Strokes = SEVEN, least: float = 0.8) -> None:
    """The picture is read as the plain drawing of these strokes is, and as none of the others."""
    digit = read_digit(image)
    likenesses = {name: likeness(digit, read_plain(name)) for name in DIGITS}
    assert likenesses.pop(next(name for name, other in DIGITS.items() if other is strokes)) > least
    assert all(other < 0.75 for other in likenesses.values())


@functools.cache
def read_plain(name: str) -> np.ndarray:
    """What is read of the plain drawing of one of DIGITS."""
    return read_digit(encode(draw_digit(DIGITS[name])))
