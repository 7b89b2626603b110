"""The bytes of a picture -> the handwritten digits in it, each as an image like MNIST's.

`read_digits` decodes the picture, measures the ink on each pixel, finds the digits among all that has ink, redraws
their strokes at MNIST's width, scales each to 20 pixels and centres it in 28x28.

The thresholds without a source were tuned on rendered photographs.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from .components import NothingToRead, find_digit, find_digits
from .decoding import SIDE, decode
from .paper import (
    choose_channel,
    erode,
    extend_paper,
    faint_density,
    find_paper,
    ink_density,
    interior_mask,
    plain_density,
    rescale,
)
from .touching import cut

BOX = 20  # pixels: MNIST's digits are scaled to fit a square of this side (LeCun et al. 1998)
FINE = 5 * BOX  # strokes are measured and redrawn at this size

# Mean width of a digit's strokes in pixels, once it is scaled to BOX.
STROKE_WIDTHS = (2.2, 4.2)  # 16 % of MNIST's training digits are thinner, 4 % are thicker
MARKER_WIDTH = 6.5  # thicker than 99.9 % of MNIST's training digits
BLOB_WIDTH = 10  # thicker than all of them

Box = Sequence[int]  # left, top, width and height in pixels of the picture that was sent, upright
Finder = Callable[..., list[list[np.ndarray]]]
Way = Callable[[], tuple[np.ndarray, list[list[np.ndarray]]]]


@dataclass(frozen=True)
class Item:
    """Something in a picture that may be a digit.

    Attributes:
        image: uint8 (28, 28), ink 255 on paper 0.
        box: where it is.
        parts: the items that it may consist of instead, by the first and the last of the pieces that make each: (0, 1)
            and (1, 2) are two halves. Called only where it is not known as it is, because it takes as long as reading
            each of them.
    """

    image: np.ndarray
    box: Box
    parts: Callable[[], "Parts"] = dict


Parts = dict[tuple[int, int], Item]


@dataclass(frozen=True)
class Reading:
    """What is in a picture.

    Attributes:
        items: in reading order.
        others: other ways to read it. Called only where nothing is known as it was read first.
    """

    items: list[Item]
    others: Callable[[], "list[list[Item]]"] = list


def read_digits(image: bytes) -> Reading:
    """Find the digits in a picture and draw each as MNIST would.

    Args:
        image: an encoded picture in one of FORMATS (the first frame or page) of any mode and size.

    Returns:
        In reading order, 1 to MAX_DIGITS: uint8 (28, 28), ink 255 on paper 0: the longest side is 20, the centre of
        mass is in the middle (LeCun et al. 1998, "Gradient-based learning applied to document recognition"). A picture
        that is like this already is returned unchanged.

    Raises:
        NotAnImage: the bytes cannot be decoded.
        NothingToRead: there is no digit in the picture.
    """
    return read_handwriting(image, find_digits)


def read_digit(image: bytes) -> np.ndarray:
    """Find the character with most ink in a picture and draw it as MNIST would.

    Arguments and errors are those of `read_digits`; the image returned is uint8 (28, 28).
    """
    (item,) = read_handwriting(image, lambda *ink, **options: [[find_digit(*ink, **options)]]).items
    return item.image


def read_handwriting(image: bytes, find: Finder) -> Reading:
    """Read a picture as `read_digits` does. `find` is components.find_digits, or finds less."""
    picture, scale = decode(image)
    if is_mnist(picture):
        return Reading([Item(picture, cv2.boundingRect(picture))], lambda: read_all(picture, scale, find))
    if max(picture.shape[:2]) < 8:
        raise NothingToRead(f"{picture.shape[1]}x{picture.shape[0]} pixels are too few to hold a digit")
    tries = list_ways(picture, find)
    found, reasons = [], []
    for way in tries:
        try:
            found.append(read_ink(*way(), scale))
        except NothingToRead as error:
            reasons.append(error)
        else:
            if found[-1][1] <= MARKER_WIDTH:  # otherwise it may be the paper between the strokes, taken for ink
                break
    items, width = min(found, key=lambda reading: reading[1], default=([], 0))
    if not found:
        raise reasons[0]
    if width > BLOB_WIDTH:
        raise NothingToRead("there is a blob in the picture, but no stroke")
    return Reading(items, lambda: read_all(picture, scale, find))


def read_all(picture: np.ndarray, scale: float, find: Finder) -> list[list[Item]]:
    """Read a decoded picture in all ways in which something is found."""
    readings = []
    for way in list_ways(picture, find):
        with contextlib.suppress(NothingToRead):
            items, width = read_ink(*way(), scale)
            if width <= BLOB_WIDTH:
                readings.append(items)
    return readings


def list_ways(picture: np.ndarray, find: Finder) -> Iterator[Way]:
    """The ways to find ink, the most likely first: on the paper, where one is seen, or anywhere; with either polarity.

    Args:
        picture: uint8 (h, w) or (h, w, 3).
        find: gives the masks of the digits.

    Returns:
        Functions that return ink density, float32 (h, w), and the masks, or raise NothingToRead.
    """
    channel, dark_ink = choose_channel(picture)
    interior = interior_mask(channel.shape)
    paper = find_paper(picture)
    if paper is not None:
        yield lambda: find_on_paper(picture, paper, find)
        dark_ink = bool(channel[paper > 0].mean() > channel[paper == 0].mean())

    def find_anywhere(density: Callable[..., np.ndarray], dark: bool) -> tuple[np.ndarray, list[list[np.ndarray]]]:
        ink = density(channel, dark)
        return ink, find(ink, interior)

    for density in (ink_density, faint_density, plain_density):
        for dark in (dark_ink, not dark_ink):
            yield partial(find_anywhere, density, dark)


def find_on_paper(picture: np.ndarray, paper: np.ndarray, find: Finder) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """Find the digits that lie completely on the paper: where its edge cuts them, it is a patch of light and no paper.

    Args:
        picture: uint8 (h, w) or (h, w, 3).
        paper: uint8 (h, w), 1 on the paper.
        find: gives the masks of the digits.

    Returns:
        Ink density, float32 (h, w), and the masks.

    Raises:
        NothingToRead: no digit lies completely on the paper.
    """
    interior = erode(paper, 1 + max(paper.shape) // 128) & interior_mask(paper.shape)
    ink = ink_density(*choose_channel(extend_paper(picture, paper)))
    return ink, find(ink, interior, allow_cut=False)


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


def read_ink(ink: np.ndarray, chains: list[list[np.ndarray]], scale: float) -> tuple[list[Item], float]:
    """Draw each digit as MNIST would.

    Args:
        ink: float32 (h, w), ink density, 0 to 1.
        chains: for each digit its masks, as components.find_digits returns them.
        scale: pixels of the picture that was sent for each pixel of `ink`.

    Returns:
        The digits, and the largest mean width of a digit's strokes, in pixels of the 28.

    Raises:
        NothingToRead: nothing of the strokes is left.
    """
    items, widths = [], []
    for chain in chains:
        whole = np.bitwise_or.reduce(chain)
        digit, width = normalise_strokes(ink, whole)
        parts = partial(read_parts, ink, chain, scale)
        items.append(Item(digit, scale_box(cv2.boundingRect(whole), scale), parts))
        widths.append(width)
    return items, max(widths)


def read_parts(ink: np.ndarray, pieces: list[np.ndarray], scale: float) -> Parts:
    """The items that pieces of ink make, each alone and with its neighbours, but not all together.

    Args:
        ink, scale: as for `read_ink`.
        pieces: masks, uint8 (h, w), from left to right; a single one is cut where digits may touch.
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
                    parts[first, last] = Item(normalise_strokes(ink, mask)[0], scale_box(box, scale))
    return parts


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Of a mask, uint8 (h, w), the largest connected component, and those that are at least a tenth as large."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask)
    area = statistics[:, cv2.CC_STAT_AREA]
    area[0] = 0
    return mask * (area > 0.1 * area.max())[labels].astype(np.uint8)


def normalise_strokes(ink: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Redraw a digit's strokes at MNIST's width, scale it to 20 pixels and centre it.

    Args:
        ink: float32 (h, w), ink density, 0 to 1.
        mask: uint8 (h, w), 1 on the digit.

    Returns:
        The digit, uint8 (28, 28), and the mean width that its strokes had, in pixels of the 28.

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
    """Cut out the digit and scale it to a longest side of FINE.

    Args:
        ink: float32 (h, w), ink density, 0 to 1.
        mask: uint8 (h, w), 1 on the digit.

    Returns:
        bool (about FINE, about FINE), with a margin: true on the strokes.

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


def centre_of_mass(picture: np.ndarray) -> tuple[float, float]:
    """Column and row of the centre of mass of a picture (h, w)."""
    moments = cv2.moments(picture)
    return moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]


def centre_by_mass(digit: np.ndarray) -> np.ndarray:
    """uint8 (28, 28) with the centre of mass of a digit, uint8 (h <= 20, w <= 20), as near to (14, 14) as it fits."""
    x, y = centre_of_mass(digit)
    height, width = digit.shape
    left = min(max(round(SIDE / 2 - x), 0), SIDE - width)
    top = min(max(round(SIDE / 2 - y), 0), SIDE - height)
    result = np.zeros((SIDE, SIDE), np.uint8)
    result[top : top + height, left : left + width] = digit
    return result
