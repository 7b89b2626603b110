"""The bytes of a picture -> the handwritten digits in it, each as an image like MNIST's.

A picture can be read in several ways: on the paper that is seen on a desk or anywhere, dark ink or bright. This file
lists them, likeliest first, and chooses by the width of the strokes that are found.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from .components import NothingToRead, find_digits
from .decoding import Decoded, decode
from .normalisation import BLOB_WIDTH, MARKER_WIDTH, STROKE_WIDTHS, Item, Parts, Place, is_mnist
from .paper import (
    choose_channel,
    erode,
    even_density,
    extend_paper,
    find_even_paper,
    find_paper,
    ink_density,
    interior_mask,
)
from .touching import draw_parts


class Way(NamedTuple):
    """A way to read a picture."""

    density: Callable[[], np.ndarray]  # computes the ink density, float32 (h, w), 0 to 1
    interior: np.ndarray  # uint8 (h, w), 1 where digits should lie
    on_paper: bool = False  # whether the interior is a sheet of paper on a desk, which no digit reaches beyond


class Found(NamedTuple):
    """What was found in a picture in one way."""

    items: list[Item]  # in reading order
    stroke_width: float  # the largest mean width of an item's strokes, in pixels of the 28
    pieces: list[tuple[Place, list[np.ndarray]]]  # of each item, where it is and the masks that it consists of


def read_digits(image: bytes, *, limited: bool = True, single: bool = False) -> list[Item]:
    """Find the digits in a picture, 1 to MAX_DIGITS, in reading order, and draw each as MNIST would.

    Each is uint8 (28, 28), ink 255 on paper 0: the longest side is 20, the centre of mass is in the middle (LeCun et
    al. 1998). A picture that is like this already is returned unchanged. `single`: only the one with most ink is
    wanted. Raises NotAnImage where the bytes cannot be decoded, and NothingToRead where there is no digit.
    """
    picture, scale = decode_handwriting(image, limited)
    if is_mnist(picture):
        return [Item(picture, cv2.boundingRect(picture))]
    return read_in_turn(list_ways(picture), scale, single=single)[1].items


def read_digit(image: bytes, *, limited: bool = True) -> np.ndarray:
    """The image, uint8 (28, 28), of the character with most ink in a picture; otherwise as `read_digits`."""
    return read_digits(image, limited=limited, single=True)[0].image


def find_parts(image: bytes, wanted: Sequence[int]) -> list[Parts]:
    """The parts that each of the `wanted` items of `read_digits` may consist of instead; of the others none."""
    picture, scale = decode_handwriting(image)
    if is_mnist(picture):
        return [{}]
    found = read_in_turn(list_ways(picture), scale)[1]
    return [draw_parts(*pieces) if k in wanted else {} for k, pieces in enumerate(found.pieces)]


def read_otherwise(image: bytes, most: int) -> list[list[tuple[Item, Parts]]]:
    """Read a picture in other ways; for each way the items found, and the parts of the first `most` of them."""
    picture, scale = decode_handwriting(image)
    if is_mnist(picture):  # as if it did not look like MNIST's
        ways, least_area = [Way(partial(even_density, picture, 0), interior_mask(picture.shape))], 0.0
    else:
        usual_ways = list_ways(picture)
        chosen, first = read_in_turn(usual_ways, scale)
        on_paper = usual_ways[chosen].on_paper
        anywhere = usual_ways[chosen + 1] if on_paper else usual_ways[chosen]
        # With the root of the density faint strokes become denser, and blurred ones wider.
        ways = [anywhere._replace(density=lambda: anywhere.density() ** 0.5)] + ([anywhere] if on_paper else [])
        least_area = 0.8 * covered_area(first.items)  # what covers less of the picture is a part of the same
    readings = []
    for way in ways:
        with contextlib.suppress(NothingToRead):
            found = read_one_way(way, scale)
            if found.stroke_width <= STROKE_WIDTHS[1] and covered_area(found.items) > least_area:
                parts = [draw_parts(*pieces) if k < most else {} for k, pieces in enumerate(found.pieces)]
                readings.append(list(zip(found.items, parts, strict=True)))
    return readings


def decode_handwriting(image: bytes, limited: bool = True) -> Decoded:
    """Decode a picture of handwriting. Raises NotAnImage, and NothingToRead where it is too small."""
    decoded = decode(image, limited=limited)
    height, width = decoded.pixels.shape[:2]
    if max(height, width) < 8:
        raise NothingToRead(f"{width}x{height} pixels are too few to hold a digit")
    return decoded


def list_ways(picture: np.ndarray) -> list[Way]:
    """The ways to read a decoded picture, the likeliest first: on the paper, if a desk is seen around it, or anywhere.

    On even paper, such as a screen's, ink is what differs from it. Otherwise the likelier polarity is tried first.
    """
    channel, dark_ink = choose_channel(picture)
    paper, level = find_paper(picture), find_even_paper(channel)
    interior = interior_mask(picture.shape)
    if paper is not None:
        dark_ink = bool(channel[paper > 0].mean() > channel[paper == 0].mean())
    densities = [partial(ink_density, channel, dark) for dark in (dark_ink, not dark_ink)]
    if level is not None:
        densities = [partial(even_density, channel, level)]
    ways = [Way(density, interior) for density in densities]
    if paper is not None:
        inside = erode(paper, 1 + max(paper.shape) // 128) & interior
        ways.insert(0, Way(lambda: ink_density(*choose_channel(extend_paper(picture, paper))), inside, on_paper=True))
    return ways


def read_in_turn(ways: Sequence[Way], scale: float, *, single: bool = False) -> tuple[int, Found]:
    """Read a picture in the first way that finds strokes as thin as a marker's, or in the one with the thinnest.

    What has thicker strokes may be the paper between the strokes, taken for ink. Returns which way it was, and what was
    found. Raises NothingToRead where no way finds anything but blobs.
    """
    found: dict[int, Found] = {}
    reasons: list[NothingToRead] = []
    for k, way in enumerate(ways):
        try:
            found[k] = read_one_way(way, scale, single=single)
        except NothingToRead as error:
            reasons.append(error)
            continue
        if found[k].stroke_width <= MARKER_WIDTH:
            break
    if not found:
        raise reasons[0]
    chosen = min(found, key=lambda k: found[k].stroke_width)
    is_last_resort = len(ways) > 1 and chosen == len(ways) - 1
    if found[chosen].stroke_width > (STROKE_WIDTHS[1] if is_last_resort else BLOB_WIDTH):
        raise NothingToRead("there is a blob in the picture, but no stroke")
    return chosen, found[chosen]


def read_one_way(way: Way, scale: float, *, single: bool = False) -> Found:
    """Read a picture in one way: all digits, or a single one. Raises NothingToRead."""
    ink = way.density()
    chains = find_digits(ink, way.interior, allow_cut=not way.on_paper, single=single)
    paper = np.ones(ink.shape, np.uint8)
    for window, masks in chains:
        paper[window] &= 1 - np.bitwise_or.reduce(masks)
    items, stroke_widths, pieces = [], [], []
    for window, masks in chains:
        place = Place(ink[window], paper[window], (window[1].start, window[0].start), scale)
        item, stroke_width = place.draw(np.bitwise_or.reduce(masks), touching=len(masks) == 1)
        items.append(item)
        stroke_widths.append(stroke_width)
        pieces.append((place, masks))
    return Found(items, max(stroke_widths), pieces)


def covered_area(items: Sequence[Item]) -> int:
    """Area of the box around all items, in pixels of the picture that was sent."""
    boxes = np.array([item.box for item in items])
    width, height = (boxes[:, :2] + boxes[:, 2:]).max(0) - boxes[:, :2].min(0)
    return int(width * height)
