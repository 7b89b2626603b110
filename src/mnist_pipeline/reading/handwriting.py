"""The bytes of a picture -> the handwritten digits in it, each as an image like MNIST's.

`read_digits` decodes the picture, measures the ink on each pixel, finds the digits among all that has ink, redraws
their strokes at MNIST's width, scales each to 20 pixels and centres it in 28x28.

The thresholds without a source were tuned on rendered photographs.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from ..centring import BOX, SIDE, centre_by_mass, centre_of_mass
from .components import Chain, NothingToRead, find_digit, find_digits
from .decoding import Spend, decode, spend_freely
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
Finder = Callable[..., list[Chain]]


@dataclass(frozen=True)
class Item:
    """Something in a picture that may be a digit.

    Attributes:
        image: uint8 (28, 28), ink 255 on paper 0.
        box: where it is.
        on_paper: false of a narrow stroke with other ink around it. Anything has edges and gaps that look like a 1.
        parts: the items that it may consist of instead, by the first and the last of the pieces that make each: (0, 1)
            and (1, 2) are two halves. Called only where it is not known as it is, because it takes as long as reading
            each of them.
        touching: whether these parts touch, so that it may as well be one thing.
    """

    image: np.ndarray
    box: Box
    on_paper: bool = True
    parts: Callable[[], "Parts"] = dict
    touching: bool = True


Parts = dict[tuple[int, int], Item]
Way = Callable[[], tuple[list[Item], float]]  # a way to read a picture: the items, and their widest mean stroke


@dataclass(frozen=True)
class Reading:
    """What is in a picture.

    Attributes:
        items: in reading order.
        others: other ways to read it. Called only where nothing is known as it was read first.
    """

    items: list[Item]
    others: Callable[[], "list[list[Item]]"] = list


def read_digits(image: bytes, spend: Spend = spend_freely) -> Reading:
    """Find the digits in a picture and draw each as MNIST would.

    Args:
        image, spend: as for decoding.decode.

    Returns:
        In reading order, 1 to MAX_DIGITS: uint8 (28, 28), ink 255 on paper 0: the longest side is 20, the centre of
        mass is in the middle (LeCun et al. 1998, "Gradient-based learning applied to document recognition"). A picture
        that is like this already is returned unchanged.

    Raises:
        NotAnImage: the bytes cannot be decoded.
        TooMuchWork: `spend` does not allow it.
        NothingToRead: there is no digit in the picture.
    """
    return read_handwriting(image, find_digits, spend)


def read_digit(image: bytes, spend: Spend = spend_freely) -> np.ndarray:
    """Find the character with most ink in a picture and draw it as MNIST would.

    Arguments and errors are those of `read_digits`; the image returned is uint8 (28, 28).
    """
    (item,) = read_handwriting(image, lambda *ink, **options: [find_digit(*ink, **options)], spend).items
    return item.image


def read_handwriting(image: bytes, find: Finder, spend: Spend) -> Reading:
    """Read a picture as `read_digits` does. `find` is components.find_digits, or finds less."""
    picture, scale = decode(image, spend)
    if is_mnist(picture):
        return Reading([Item(picture, cv2.boundingRect(picture))], lambda: read_otherwise(picture, scale, find))
    if max(picture.shape[:2]) < 8:
        raise NothingToRead(f"{picture.shape[1]}x{picture.shape[0]} pixels are too few to hold a digit")
    return read_pixels(picture, scale, find)


def read_otherwise(picture: np.ndarray, scale: float, find: Finder) -> list[list[Item]]:
    """Read a picture that looks like MNIST's as if it did not."""
    return read_all([partial(read_anywhere, partial(even_density, picture, 0), scale, find)], [])


def read_pixels(picture: np.ndarray, scale: float, find: Finder) -> Reading:
    """Read a decoded picture: on the paper, if a desk is seen around it, or else anywhere.

    On even paper, such as a screen's, ink is what differs from it. Otherwise the likelier polarity is tried first.

    Args:
        picture: uint8 (h, w) or (h, w, 3).
        scale: pixels of the picture that was sent for each of these.
        find: gives the masks of the digits.

    Raises:
        NothingToRead: there is no digit in the picture.
    """
    channel, dark_ink = choose_channel(picture)
    paper, level = find_paper(picture), find_even_paper(channel)
    if paper is not None:
        dark_ink = bool(channel[paper > 0].mean() > channel[paper == 0].mean())
    densities = [partial(ink_density, channel, dark) for dark in (dark_ink, not dark_ink)]
    if level is not None:
        densities = [partial(even_density, channel, level)]
    ways: list[Way] = [partial(read_anywhere, density, scale, find) for density in densities]
    if paper is not None:
        ways.insert(0, partial(read_on_paper, picture, paper, scale, find))
    chosen, items = read_in_turn(ways)
    density = densities[max(chosen - len(ways) + len(densities), 0)]
    others: list[Way] = [partial(read_anywhere, density, scale, find, power=0.5)]
    if paper is not None and chosen == 0:
        others.append(ways[1])
    return Reading(items, partial(read_all, others, items))


def read_in_turn(ways: Sequence[Way]) -> tuple[int, list[Item]]:
    """Read a picture in the first way that finds strokes as thin as a marker's, or in the one with the thinnest.

    What has thicker strokes may be the paper between the strokes, taken for ink.

    Returns:
        Which way it was, and the items.

    Raises:
        NothingToRead: no way finds anything but blobs.
    """
    found: list[tuple[float, int, list[Item]]] = []
    reasons: list[NothingToRead] = []
    for k, way in enumerate(ways):
        try:
            items, width = way()
        except NothingToRead as error:
            reasons.append(error)
            continue
        found.append((width, k, items))
        if width <= MARKER_WIDTH:
            break
    if not found:
        raise reasons[0]
    width, k, items = min(found, key=lambda reading: reading[0])
    if width > BLOB_WIDTH or (width > STROKE_WIDTHS[1] and k > 0 and k == len(ways) - 1):
        raise NothingToRead("there is a blob in the picture, but no stroke")
    return k, items


def read_all(ways: Sequence[Way], first: Sequence[Item]) -> list[list[Item]]:
    """Read a picture in all these ways, and return the readings that may be better than the first.

    What has unusually thick strokes is not, nor is what covers less of the picture: a part of the same thing.
    """
    readings = []
    for way in ways:
        with contextlib.suppress(NothingToRead):
            items, width = way()
            if width <= STROKE_WIDTHS[1] and covered_area(items) > 0.8 * covered_area(first):
                readings.append(items)
    return readings


def covered_area(items: Sequence[Item]) -> int:
    """Area of the box around all items, in pixels of the picture that was sent."""
    if not items:
        return 0
    boxes = np.array([item.box for item in items])
    width, height = (boxes[:, :2] + boxes[:, 2:]).max(0) - boxes[:, :2].min(0)
    return int(width * height)


def read_on_paper(picture: np.ndarray, paper: np.ndarray, scale: float, find: Finder) -> tuple[list[Item], float]:
    """Read the digits that lie completely on the paper, as `read_ink` returns them.

    Where its edge cuts the digit, it is a patch of light and no paper.

    Args:
        picture: uint8 (h, w) or (h, w, 3).
        paper: uint8 (h, w), 1 on the paper.
        scale, find: as for `read_pixels`.

    Raises:
        NothingToRead: no digit lies completely on the paper.
    """
    interior = erode(paper, 1 + max(paper.shape) // 128) & interior_mask(paper.shape)
    ink = ink_density(*choose_channel(extend_paper(picture, paper)))
    return read_ink(ink, find(ink, interior, allow_cut=False), scale)


def read_anywhere(
    density: Callable[[], np.ndarray], scale: float, find: Finder, *, power: float = 1.0
) -> tuple[list[Item], float]:
    """Read the digits in the whole picture, as `read_ink` returns them.

    Args:
        density: returns ink density, float32 (h, w), 0 to 1.
        scale, find: as for `read_pixels`.
        power: that the density is raised to, above 0; below 1 faint strokes become denser and blurred ones wider.

    Raises:
        NothingToRead: there is no digit in the picture.
    """
    ink = density() ** power
    return read_ink(ink, find(ink, interior_mask(ink.shape)), scale)


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


def read_ink(ink: np.ndarray, chains: list[Chain], scale: float) -> tuple[list[Item], float]:
    """Draw each digit as MNIST would.

    Args:
        ink: float32 (h, w), ink density, 0 to 1.
        chains: the digits, as components.find_digits returns them.
        scale: pixels of the picture that was sent for each pixel of `ink`.

    Returns:
        The digits, and the largest mean width of a digit's strokes, in pixels of the 28.

    Raises:
        NothingToRead: nothing of the strokes is left.
    """
    items, widths = [], []
    paper = np.ones(ink.shape, np.uint8)
    for window, masks in chains:
        paper[window] &= 1 - np.bitwise_or.reduce(masks)
    for window, masks in chains:
        place = Place(ink[window], paper[window], (window[1].start, window[0].start), scale)
        mask = np.bitwise_or.reduce(masks)
        digit, width = normalise_strokes(place.ink, mask)
        parts = partial(read_parts, place, masks)
        items.append(Item(digit, place.find_box(mask), place.is_on_paper(mask), parts, len(masks) == 1))
        widths.append(width)
    return items, max(widths)


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

    Args:
        place: where they are.
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
