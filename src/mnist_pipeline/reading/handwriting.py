"""The bytes of a picture -> the handwritten digits in it, each as an image like MNIST's.

A picture can be read in several ways: on the paper that is seen on a desk or anywhere, dark ink or bright. The width
of the strokes that are found decides which way is right.
"""

import contextlib
from collections.abc import Container, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from .components import NothingToRead, find_digits
from .decoding import Decoded, decode
from .normalisation import BLOB_WIDTH, MARKER_WIDTH, STROKE_WIDTHS, Item, Parts, Place, is_mnist
from .paper import Way, even_density, interior_mask, list_ways
from .touching import draw_parts


class Found(NamedTuple):
    """What was found in a picture in one way."""

    way: Way
    items: list[Item]  # in reading order
    places: list[Place]  # of the items
    stroke_width: float  # the largest mean width of an item's strokes, in pixels of the 28

    def parts(self, wanted: Container[int]) -> list[Parts]:
        """The parts that each of the wanted items may consist of; of the others none."""
        return [draw_parts(place) if k in wanted else {} for k, place in enumerate(self.places)]


def read_digits(image: bytes, *, limited: bool = True, single: bool = False) -> list[Item]:
    """Find the digits in a picture, 1 to MAX_DIGITS, in reading order, and draw each as MNIST would.

    Each is uint8 (28, 28), ink 255 on paper 0: the longest side is 20, the centre of mass is in the middle (LeCun et
    al. 1998). A picture that is like this already is returned unchanged. `single`: only the one with most ink is
    wanted. Raises NotAnImage where the bytes cannot be decoded, and NothingToRead where there is no digit.
    """
    picture, scale = decode_handwriting(image, limited)
    if is_mnist(picture):
        return [Item(picture, cv2.boundingRect(picture))]
    return read_in_turn(list_ways(picture), scale, single).items


def read_digit(image: bytes, *, limited: bool = True) -> np.ndarray:
    """The image, uint8 (28, 28), of the character with most ink in a picture; otherwise as `read_digits`."""
    return read_digits(image, limited=limited, single=True)[0].image


def find_parts(image: bytes, wanted: Sequence[int]) -> list[Parts]:
    """The parts that each of the `wanted` items of `read_digits` may consist of instead; of the others none."""
    picture, scale = decode_handwriting(image)
    return [{}] if is_mnist(picture) else read_in_turn(list_ways(picture), scale).parts(wanted)


def read_otherwise(image: bytes, most: int) -> list[list[tuple[Item, Parts]]]:
    """Read a picture in other ways; for each way the items found, and the parts of the first `most` of them."""
    picture, scale = decode_handwriting(image)
    if is_mnist(picture):  # as if it did not look like MNIST's
        ways, least_area = [Way(partial(even_density, picture, 0), interior_mask(picture.shape))], 0.0
    else:
        usual_ways = list_ways(picture)
        first = read_in_turn(usual_ways, scale)
        anywhere = usual_ways[1] if first.way.on_paper else first.way
        # With the root of the density faint strokes become denser, and blurred ones wider.
        ways = [anywhere._replace(density=lambda: anywhere.density() ** 0.5)]
        if first.way.on_paper:
            ways.append(anywhere)
        least_area = 0.8 * covered_area(first.items)  # what covers less of the picture is a part of the same
    readings = []
    for way in ways:
        with contextlib.suppress(NothingToRead):
            found = read_one_way(way, scale)
            if found.stroke_width <= STROKE_WIDTHS[1] and covered_area(found.items) > least_area:
                readings.append(list(zip(found.items, found.parts(range(most)), strict=True)))
    return readings


def decode_handwriting(image: bytes, limited: bool = True) -> Decoded:
    """Decode a picture of handwriting. Raises NotAnImage, and NothingToRead where it is too small."""
    decoded = decode(image, limited=limited)
    height, width = decoded.pixels.shape[:2]
    if max(height, width) < 8:
        raise NothingToRead(f"{width}x{height} pixels are too few to hold a digit")
    return decoded


def read_in_turn(ways: Sequence[Way], scale: float, single: bool = False) -> Found:
    """Read a picture in the first way that finds strokes as thin as a marker's, or in the one with the thinnest.

    What has thicker strokes may be the paper between the strokes, taken for ink. Raises NothingToRead where no way
    finds anything but blobs.
    """
    readings: list[Found] = []
    reasons: list[NothingToRead] = []
    for way in ways:
        try:
            readings.append(read_one_way(way, scale, single))
        except NothingToRead as error:
            reasons.append(error)
            continue
        if readings[-1].stroke_width <= MARKER_WIDTH:
            break
    if not readings:
        raise reasons[0]
    best = min(readings, key=lambda found: found.stroke_width)
    is_last_resort = len(ways) > 1 and best.way is ways[-1]
    if best.stroke_width > (STROKE_WIDTHS[1] if is_last_resort else BLOB_WIDTH):
        raise NothingToRead("there is a blob in the picture, but no stroke")
    return best


def read_one_way(way: Way, scale: float, single: bool = False) -> Found:
    """Read a picture in one way: all digits, or a single one. Raises NothingToRead."""
    ink = way.density()
    chains = find_digits(ink, way.interior, allow_cut=not way.on_paper, single=single)
    paper = np.ones(ink.shape, np.uint8)
    for window, masks in chains:
        paper[window] &= 1 - np.bitwise_or.reduce(masks)
    places = [Place(ink, paper, window, masks, scale) for window, masks in chains]
    drawn = [place.draw(np.bitwise_or.reduce(place.pieces), touching=len(place.pieces) == 1) for place in places]
    return Found(way, [item for item, _ in drawn], places, max(stroke_width for _, stroke_width in drawn))


def covered_area(items: Sequence[Item]) -> int:
    """Area of the box around all items, in pixels of the picture that was sent."""
    boxes = np.array([item.box for item in items])
    width, height = (boxes[:, :2] + boxes[:, 2:]).max(0) - boxes[:, :2].min(0)
    return int(width * height)
