"""The bytes of a picture -> the handwritten digits in it, each as an image like MNIST's.

`read_digits` decodes the picture, measures the ink on each pixel, finds the digits among all that has ink, redraws
their strokes at MNIST's width, scales each to 20 pixels and centres it in 28x28.

The thresholds without a source were tuned on rendered photographs.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from ..centring import BOX, SIDE, centre_by_mass, centre_of_mass
from .components import Chain, NothingToRead, find_digit, find_digits
from .decoding import Decoded, decode
from .paper import (
    choose_channel,
    erode,
    even_density,
    extend_paper,
    find_even_paper,
    find_paper,
    ink_density,
    interior_mask,
    rescale,
)
from .touching import cut

FINE = 5 * BOX  # strokes are measured and redrawn at this size

# Mean width of a digit's strokes in pixels, once it is scaled to BOX.
STROKE_WIDTHS = (2.2, 4.2)  # 16 % of MNIST's training digits are thinner, 4 % are thicker
MARKER_WIDTH = 6.5  # thicker than 99.9 % of MNIST's training digits
BLOB_WIDTH = 10  # thicker than all of them

Box = Sequence[int]  # left, top, width and height in pixels of the picture that was sent, upright


@dataclass(frozen=True)
class Item:
    """Something in a picture that may be a digit.

    Attributes:
        image: uint8 (28, 28), ink 255 on paper 0.
        box: where it is.
        on_paper: false of a narrow stroke with other ink around it. Anything has edges and gaps that look like a 1.
        touching: whether the parts that it may consist of touch, so that it may as well be one thing.
    """

    image: np.ndarray
    box: Box
    on_paper: bool = True
    touching: bool = True


Parts = dict[tuple[int, int], Item]  # by the first and the last of the pieces that make each: (0, 1), (1, 2) are halves


class Way(NamedTuple):
    """A way to read a picture.

    Attributes:
        measure: gives the ink density, float32 (h, w), 0 to 1, and where digits should lie, uint8 (h, w).
        allow_cut: whether a digit may reach beyond that.
        density: the ink density of the whole picture, for a second way to read it.
        is_last_resort: whether it is tried only because the ways before it found nothing good.
    """

    measure: Callable[[], tuple[np.ndarray, np.ndarray]]
    allow_cut: bool
    density: Callable[[], np.ndarray]
    is_last_resort: bool = False


class Found(NamedTuple):
    """What was found in a picture in one way.

    Attributes:
        items: in reading order.
        width: the largest mean width of an item's strokes, in pixels of the 28.
        pieces: of each item, where it is and the masks that it consists of.
    """

    items: list[Item]
    width: float
    pieces: list[tuple["Place", list[np.ndarray]]]


def read_digits(image: bytes, *, limited: bool = True) -> list[Item]:
    """Find the digits in a picture and draw each as MNIST would.

    Args:
        image, limited: as for decoding.decode.

    Returns:
        In reading order, 1 to MAX_DIGITS: uint8 (28, 28), ink 255 on paper 0: the longest side is 20, the centre of
        mass is in the middle (LeCun et al. 1998, "Gradient-based learning applied to document recognition"). A picture
        that is like this already is returned unchanged.

    Raises:
        NotAnImage: the bytes cannot be decoded.
        NothingToRead: there is no digit in the picture.
    """
    picture, scale = decode_handwriting(image, limited)
    if is_mnist(picture):
        return [Item(picture, cv2.boundingRect(picture))]
    return read_in_turn(list_ways(picture), scale, find_digits)[1].items


def read_digit(image: bytes, *, limited: bool = True) -> np.ndarray:
    """Find the character with most ink in a picture and draw it as MNIST would.

    Arguments and errors are those of `read_digits`; the image returned is uint8 (28, 28).
    """
    picture, scale = decode_handwriting(image, limited)
    if is_mnist(picture):
        return picture

    def find(ink: np.ndarray, interior: np.ndarray, *, allow_cut: bool) -> list[Chain]:
        return [find_digit(ink, interior, allow_cut=allow_cut)]

    return read_in_turn(list_ways(picture), scale, find)[1].items[0].image


def find_parts(image: bytes, wanted: Sequence[int]) -> list[Parts]:
    """The parts that some of a picture's digits may consist of instead; each takes as long as reading a digit.

    Args:
        image: a picture that `read_digits` reads.
        wanted: indices of its items.
    """
    picture, scale = decode_handwriting(image)
    if is_mnist(picture):
        return [{} for _ in wanted]
    found = read_in_turn(list_ways(picture), scale, find_digits)[1]
    return [read_parts(*found.pieces[k]) for k in wanted]


def read_otherwise(image: bytes, most: int) -> list[list[tuple[Item, Parts]]]:
    """Read a picture in other ways than `read_digits` does, in which nothing may be found.

    Args:
        image: a picture that `read_digits` reads.
        most: items of each way whose parts are looked for; those of the others are empty.

    Returns:
        For each way the items, in reading order, and the parts that each may consist of instead.
    """
    picture, scale = decode_handwriting(image)
    if is_mnist(picture):  # as if it did not look like MNIST's
        ways, first = [read_whole(partial(even_density, picture, 0))], []
    else:
        all_ways = list_ways(picture)
        chosen, found = read_in_turn(all_ways, scale, find_digits)
        ways, first = [read_whole(all_ways[chosen].density, power=0.5)], found.items
        if not all_ways[chosen].allow_cut:  # it was read on the paper
            ways.append(all_ways[chosen + 1])
    readings = []
    for way in ways:
        with contextlib.suppress(NothingToRead):
            other = read_one_way(way, scale, find_digits)
            # What has unusually thick strokes is no better, nor what covers less of the picture: a part of the same.
            if other.width <= STROKE_WIDTHS[1] and covered_area(other.items) > 0.8 * covered_area(first):
                parts = [read_parts(*pieces) if k < most else {} for k, pieces in enumerate(other.pieces)]
                readings.append(list(zip(other.items, parts, strict=True)))
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
    if paper is not None:
        dark_ink = bool(channel[paper > 0].mean() > channel[paper == 0].mean())
    densities = [partial(ink_density, channel, dark) for dark in (dark_ink, not dark_ink)]
    if level is not None:
        densities = [partial(even_density, channel, level)]
    ways = [read_whole(density) for density in densities]
    if paper is not None:
        ways.insert(0, Way(partial(measure_on_paper, picture, paper), False, densities[0]))
    return ways if len(ways) == 1 else [*ways[:-1], ways[-1]._replace(is_last_resort=True)]


def read_whole(density: Callable[[], np.ndarray], *, power: float = 1.0) -> Way:
    """The way that reads digits anywhere in a picture.

    The density is raised to `power`: below 1 faint strokes become denser and blurred ones wider.
    """

    def measure() -> tuple[np.ndarray, np.ndarray]:
        ink = density() ** power
        return ink, interior_mask(ink.shape)

    return Way(measure, True, density)


def measure_on_paper(picture: np.ndarray, paper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ink density of a picture, uint8 (h, w) or (h, w, 3), whose paper, uint8 (h, w), has a desk around it.

    Digits lie completely on the paper. Where its edge cuts one, it is a patch of light and no paper.
    """
    interior = erode(paper, 1 + max(paper.shape) // 128) & interior_mask(paper.shape)
    return ink_density(*choose_channel(extend_paper(picture, paper))), interior


def read_one_way(way: Way, scale: float, find: Callable[..., list[Chain]]) -> Found:
    """Read a picture in one way; `find` is components.find_digits or finds less. Raises NothingToRead."""
    ink, interior = way.measure()
    return read_ink(ink, find(ink, interior, allow_cut=way.allow_cut), scale)


def read_in_turn(ways: Sequence[Way], scale: float, find: Callable[..., list[Chain]]) -> tuple[int, Found]:
    """Read a picture in the first way that finds strokes as thin as a marker's, or in the one with the thinnest.

    What has thicker strokes may be the paper between the strokes, taken for ink.

    Returns:
        Which way it was, and what was found.

    Raises:
        NothingToRead: no way finds anything but blobs.
    """
    found: list[tuple[int, Found]] = []
    reasons: list[NothingToRead] = []
    for k, way in enumerate(ways):
        try:
            found.append((k, read_one_way(way, scale, find)))
        except NothingToRead as error:
            reasons.append(error)
            continue
        if found[-1][1].width <= MARKER_WIDTH:
            break
    if not found:
        raise reasons[0]
    chosen, best = min(found, key=lambda reading: reading[1].width)
    if best.width > BLOB_WIDTH or (best.width > STROKE_WIDTHS[1] and ways[chosen].is_last_resort):
        raise NothingToRead("there is a blob in the picture, but no stroke")
    return chosen, best


def covered_area(items: Sequence[Item]) -> int:
    """Area of the box around all items, in pixels of the picture that was sent."""
    if not items:
        return 0
    boxes = np.array([item.box for item in items])
    width, height = (boxes[:, :2] + boxes[:, 2:]).max(0) - boxes[:, :2].min(0)
    return int(width * height)


def scale_box(box: Box, scale: float) -> Box:
    """A box in pixels of the decoded picture -> in pixels of the picture that was sent."""
    return [round(scale * value) for value in box]


def is_mnist(picture: np.ndarray) -> bool:
    """Whether a picture is like MNIST's: 28x28, grey, black at its border, and centred or larger than 20 pixels."""
    if picture.shape != (SIDE, SIDE) or picture.max() < 250:
        return False
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    if border.mean() > 10:  # at most 8.3 in MNIST's training images
        return False
    longest = max(cv2.boundingRect(picture)[2:])
    centred = all(abs(coordinate - SIDE / 2) < 0.6 for coordinate in centre_of_mass(picture))
    return longest > BOX or (longest >= BOX - 1 and centred)


def read_ink(ink: np.ndarray, chains: list[Chain], scale: float) -> Found:
    """Draw each digit as MNIST would.

    Raises:
        NothingToRead: nothing of the strokes is left.
    """
    items, widths, pieces = [], [], []
    paper = np.ones(ink.shape, np.uint8)
    for window, masks in chains:
        paper[window] &= 1 - np.bitwise_or.reduce(masks)
    for window, masks in chains:
        place = Place(ink[window], paper[window], (window[1].start, window[0].start), scale)
        mask = np.bitwise_or.reduce(masks)
        digit, width = normalise_strokes(place.ink, mask)
        items.append(Item(digit, place.find_box(mask), place.is_on_paper(mask), len(masks) == 1))
        widths.append(width)
        pieces.append((place, masks))
    return Found(items, max(widths), pieces)


@dataclass(frozen=True)
class Place:
    """A window of a picture.

    Attributes:
        ink: float32 (h, w), ink density, 0 to 1.
        paper: uint8 (h, w), 0 on everything that may be a digit, 1 elsewhere.
        corner: left and top of the window in the decoded picture.
        scale: pixels of the picture that was sent for each pixel of `ink`.
    """

    ink: np.ndarray
    paper: np.ndarray
    corner: tuple[int, int]
    scale: float

    def find_box(self, mask: np.ndarray) -> Box:
        """The box around a mask, uint8 (h, w), in pixels of the picture that was sent."""
        left, top, width, height = cv2.boundingRect(mask)
        return scale_box((self.corner[0] + left, self.corner[1] + top, width, height), self.scale)

    def is_on_paper(self, mask: np.ndarray) -> bool:
        """Whether something, uint8 (h, w), is wider than a 1, or has hardly any other ink around it."""
        left, top, width, height = cv2.boundingRect(mask)
        if width >= 0.5 * height:
            return True
        margin = max(2, height // 4)
        around = np.s_[max(top - margin, 0) : top + height + margin, max(left - margin, 0) : left + width + margin]
        clear = erode(self.paper[around], max(1, height // 28)) > 0  # the edges of strokes are blurred
        other = self.ink[around][clear] > np.median(self.ink[mask > 0]) / 2
        return not other.size or bool(other.mean() < 0.01)


def read_parts(place: Place, pieces: list[np.ndarray]) -> Parts:
    """The items that pieces of ink make, each alone and with its neighbours, but not all together.

    The pieces are masks, from left to right; a single one is cut where digits may touch.
    """
    if len(pieces) == 1:
        pieces = cut(pieces[0])
    height = max(cv2.boundingRect(piece)[3] for piece in pieces)
    parts = {}
    for first in range(len(pieces)):
        for last in range(first + 1, len(pieces) + (first > 0)):
            mask = largest_component(np.bitwise_or.reduce(pieces[first:last]))
            box = cv2.boundingRect(mask)
            if box[3] > 0.4 * height and box[2] < 1.3 * height:
                with contextlib.suppress(NothingToRead):
                    digit, width = normalise_strokes(place.ink, mask)
                    if width <= MARKER_WIDTH:
                        parts[first, last] = Item(digit, place.find_box(mask), place.is_on_paper(mask))
    return parts


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Of a mask, uint8 (h, w), the largest connected component, and those that are at least a tenth as large."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask)
    area = statistics[:, cv2.CC_STAT_AREA]
    area[0] = 0
    return mask * (area > 0.1 * area.max())[labels].astype(np.uint8)


def normalise_strokes(ink: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Redraw a digit's strokes at MNIST's width, scale it to 20 pixels and centre it.

    Returns the digit, uint8 (28, 28), and the mean width that its strokes had, in pixels of the 28.

    Raises:
        NothingToRead: nothing of the strokes is left.
    """
    strokes = magnify(ink, mask)
    inside = cv2.distanceTransform(strokes.astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform(1 - strokes.astype(np.uint8), cv2.DIST_L2, 5)
    width = 4 * float(inside[strokes].mean()) * BOX / FINE  # in a ribbon the mean distance is a quarter of the width
    widening = (float(np.clip(width, *STROKE_WIDTHS)) - width) * FINE / BOX / 2  # on either side, in pixels of FINE
    redrawn = np.clip(np.where(strokes, inside, 0.5 - outside) + widening, 0, 1)
    left, top, wide, high = cv2.boundingRect((redrawn > 0).astype(np.uint8))
    digit = rescale(redrawn[top : top + high, left : left + wide], BOX / max(wide, high))
    return centre_by_mass(np.clip(digit * 255 + 0.5, 0, 255).astype(np.uint8)), width


def magnify(ink: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Cut out the digit and scale it to a longest side of FINE: bool, true on the strokes, with a margin.

    Raises:
        NothingToRead: nothing of the strokes is left at that size.
    """
    level = float(np.median(ink[mask > 0]))
    left, top, width, height = cv2.boundingRect(mask)
    margin = 2 + max(width, height) // 20
    digit = ink * cv2.dilate(mask, np.ones((3, 3), np.uint8))
    digit = np.pad(digit[top : top + height, left : left + width], margin)
    scale = FINE / max(width, height)
    thinnest = max(1, round(0.6 / scale))  # a finer line would be lost when the digit is scaled down
    strokes: np.ndarray = rescale(cv2.dilate(digit, np.ones((thinnest, thinnest), np.uint8)), scale) > level / 2
    if not strokes.any():
        raise NothingToRead("there is no ink in the picture but specks and lines")
    return strokes
