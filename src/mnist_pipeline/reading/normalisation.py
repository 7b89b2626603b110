"""The ink of a digit -> the image that MNIST would hold: strokes of its width, in 20 of 28x28 pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..centring import BOX, SIDE, centre_by_mass, centre_of_mass
from .components import NO_INK, NothingToRead
from .decoding import border_of
from .paper import erode, rescale

FINE = 5 * BOX  # strokes are measured and redrawn at this size

# Mean width of a digit's strokes in pixels, once it is scaled to BOX.
STROKE_WIDTHS = (2.2, 4.2)  # 16 % of MNIST's training digits are thinner, 4 % are thicker
MARKER_WIDTH = 6.5  # thicker than 99.9 % of MNIST's training digits
BLOB_WIDTH = 10  # thicker than all of them


@dataclass(frozen=True)
class Item:
    """Something in a picture that may be a digit."""

    image: np.ndarray  # uint8 (28, 28), ink 255 on paper 0; of a whole picture uint8 (C, S, S)
    box: Sequence[int]  # left, top, width and height in pixels of the picture that was sent, upright
    on_paper: bool = True  # false of a narrow stroke with other ink around it: edges and gaps may look like a 1
    touching: bool = True  # whether the parts that it may consist of touch, so that it may as well be one thing


Parts = dict[tuple[int, int], Item]  # by the first and the last of the pieces that make each: (0, 1), (1, 2) are halves


@dataclass(frozen=True)
class Place:
    """A window of a picture, and the pieces of ink there that may be one thing."""

    ink: np.ndarray  # float32 (height, width) of the decoded picture, ink density, 0 to 1
    paper: np.ndarray  # uint8 (height, width) of it, 0 on everything that may be a digit, 1 elsewhere
    window: tuple[slice, slice]  # the window's rows and columns
    pieces: list[np.ndarray]  # masks, uint8 (h, w) of the window, from left to right
    scale: float  # pixels of the picture that was sent for each pixel of `ink`

    def draw(self, mask: np.ndarray, *, touching: bool = True) -> tuple[Item, float]:
        """Draw what a mask of the window covers: the item, and the mean width of its strokes in pixels of the 28x28."""
        image, stroke_width = normalise_strokes(self.ink[self.window], mask)
        rows, columns = self.window
        left, top, width, height = cv2.boundingRect(mask)
        box = [round(self.scale * value) for value in (columns.start + left, rows.start + top, width, height)]
        return Item(image, box, self.is_on_paper(mask), touching), stroke_width

    def is_on_paper(self, mask: np.ndarray) -> bool:
        """Whether what a mask covers is wider than a 1, or has hardly any other ink around it."""
        left, top, width, height = cv2.boundingRect(mask)
        if width >= 0.5 * height:
            return True
        margin = max(2, height // 4)
        around = np.s_[max(top - margin, 0) : top + height + margin, max(left - margin, 0) : left + width + margin]
        ink = self.ink[self.window]
        clear = erode(self.paper[self.window][around], max(1, height // 28)) > 0  # the edges of strokes are blurred
        other = ink[around][clear] > np.median(ink[mask > 0]) / 2
        return not other.size or bool(other.mean() < 0.01)


def is_mnist(picture: np.ndarray) -> bool:
    """Whether a picture is like MNIST's: 28x28, grey, black at its border, and centred or larger than 20 pixels."""
    if picture.shape != (SIDE, SIDE) or picture.max() < 250:
        return False
    if border_of(picture).mean() > 10:  # at most 8.3 in MNIST's training images
        return False
    longest = max(cv2.boundingRect(picture)[2:])
    centred = all(abs(coordinate - SIDE / 2) < 0.6 for coordinate in centre_of_mass(picture))
    return longest > BOX or (longest >= BOX - 1 and centred)


def normalise_strokes(ink: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Redraw a digit at MNIST's stroke width and size: uint8 (28, 28), and the strokes' mean width in its pixels."""
    strokes = magnify(ink, mask)  # uint8 (h, w)
    inside = cv2.distanceTransform(strokes, cv2.DIST_L2, 5)
    outside = cv2.distanceTransform(1 - strokes, cv2.DIST_L2, 5)
    width = 4 * float(inside[strokes > 0].mean()) * BOX / FINE  # a ribbon's mean distance is a quarter of its width
    widening = (float(np.clip(width, *STROKE_WIDTHS)) - width) * FINE / BOX / 2  # on either side, in pixels of FINE
    redrawn = np.clip(np.where(strokes > 0, inside, 0.5 - outside) + widening, 0, 1)
    left, top, wide, high = cv2.boundingRect((redrawn > 0).astype(np.uint8))
    digit = rescale(redrawn[top : top + high, left : left + wide], BOX / max(wide, high))
    return centre_by_mass(np.clip(digit * 255 + 0.5, 0, 255).astype(np.uint8)), width


def magnify(ink: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Cut out a digit and scale it to a longest side of FINE: a mask of its strokes, with a margin."""
    level = float(np.median(ink[mask > 0]))
    left, top, width, height = cv2.boundingRect(mask)
    margin = 2 + max(width, height) // 20
    digit = ink * cv2.dilate(mask, np.ones((3, 3), np.uint8))
    digit = np.pad(digit[top : top + height, left : left + width], margin)
    scale = FINE / max(width, height)
    thinnest = max(1, round(0.6 / scale))  # a finer line would be lost when the digit is scaled down
    strokes = rescale(cv2.dilate(digit, np.ones((thinnest, thinnest), np.uint8)), scale) > level / 2
    if not strokes.any():
        raise NothingToRead(NO_INK)
    return strokes.astype(np.uint8)
