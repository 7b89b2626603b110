"""The bytes of a picture -> the handwritten digit in it, as an image like MNIST's.

`read_digit` decodes the picture, measures the ink on each pixel, finds the digit among all that has ink, redraws its
strokes at MNIST's width, scales it to 20 pixels and centres it in 28x28.

The thresholds without a source were tuned on rendered photographs.
"""

import contextlib

import cv2
import numpy as np

from .decoding import MAX_PIXELS, SIDE, decode
from .paper import choose_channel, erode, extend_paper, find_paper, ink_density, interior_mask, rescale

BOX = 20  # pixels: MNIST's digits are scaled to fit a square of this side (LeCun et al. 1998)
FINE = 5 * BOX  # strokes are measured and redrawn at this size

# Mean width of a digit's strokes in pixels, once it is scaled to BOX.
STROKE_WIDTHS = (2.2, 4.2)  # 16 % of MNIST's training digits are thinner, 4 % are thicker
MARKER_WIDTH = 6.5  # thicker than 99.9 % of MNIST's training digits
BLOB_WIDTH = 10  # thicker than all of them

MIN_DENSITY = 0.08  # what takes less than this part of the paper's brightness is no ink
NOISE_MARGIN = 4.0  # ink is denser than the paper by this many standard deviations of the paper's noise


class NothingToRead(ValueError):
    """A picture was decoded, but no digit was found in it; the message says why."""


def read_digit(image: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Find the digit in a picture and draw it as MNIST would.

    Args:
        image: an encoded PNG, JPEG, WebP, BMP, GIF or TIFF (the first frame or page) of any mode and size.
        max_pixels: width times height above which nothing is decoded.

    Returns:
        uint8 (28, 28), ink 255 on paper 0: the longest side is 20, the centre of mass is in the middle (LeCun et al.
        1998, "Gradient-based learning applied to document recognition"). A picture that is like this already is
        returned unchanged.

    Raises:
        NotAnImage: the bytes cannot be decoded.
        NothingToRead: there is no digit in the picture.
    """
    picture = decode(image, max_pixels)
    if is_mnist(picture):
        return picture
    if max(picture.shape[:2]) < 8:
        raise NothingToRead(f"{picture.shape[1]}x{picture.shape[0]} pixels are too few to hold a digit")
    channel, dark_ink = choose_channel(picture)
    paper = find_paper(picture)
    if paper is not None:
        with contextlib.suppress(NothingToRead):  # where its edge cuts the digit, it is a patch of light and no paper
            digit, stroke_width = read_on_paper(picture, paper)
            if stroke_width < MARKER_WIDTH:
                return digit
        dark_ink = dark_ink or bool(channel[paper > 0].mean() > channel[paper == 0].mean())
    digit, stroke_width = read_anywhere(channel, dark_ink)
    if stroke_width > BLOB_WIDTH:
        raise NothingToRead("there is a blob in the picture, but no stroke")
    return digit


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


def read_on_paper(picture: np.ndarray, paper: np.ndarray) -> tuple[np.ndarray, float]:
    """Read the digit that lies completely on the paper region, as `normalise_strokes` returns it.

    Args:
        picture: uint8 (h, w) or (h, w, 3).
        paper: uint8 (h, w), 1 on the paper.

    Raises:
        NothingToRead: no digit lies completely on the paper.
    """
    interior = erode(paper, 1 + max(paper.shape) // 128) & interior_mask(paper.shape)
    ink = ink_density(*choose_channel(extend_paper(picture, paper)))
    return normalise_strokes(ink, interior, allow_cut=False)


def read_anywhere(channel: np.ndarray, dark_ink: bool) -> tuple[np.ndarray, float]:
    """Read the digit in the whole picture, as `normalise_strokes` returns it.

    If the strokes are thicker than a marker's, they may be the paper between the strokes, taken for ink. The picture is
    then read a second time with ink and paper exchanged, and the reading with the thinner strokes is returned.

    Args:
        channel: uint8 (h, w).
        dark_ink: whether ink is darker than paper.

    Raises:
        NothingToRead: there is no digit in the picture.
    """
    interior = interior_mask(channel.shape)
    digit, stroke_width = normalise_strokes(ink_density(channel, dark_ink), interior)
    if stroke_width > MARKER_WIDTH:
        with contextlib.suppress(NothingToRead):
            inverse = normalise_strokes(ink_density(channel, not dark_ink), interior)
            return min((digit, stroke_width), inverse, key=lambda reading: reading[1])
    return digit, stroke_width


def normalise_strokes(ink: np.ndarray, interior: np.ndarray, *, allow_cut: bool = True) -> tuple[np.ndarray, float]:
    """Find the digit, redraw its strokes at MNIST's width, scale it to 20 pixels and centre it.

    Args:
        ink: float32 (h, w), ink density, 0 to 1.
        interior: uint8 (h, w), 1 where the digit should lie.
        allow_cut: whether the digit may reach beyond the interior.

    Returns:
        The digit, uint8 (28, 28), and the mean width that its strokes had, in pixels of the 28.

    Raises:
        NothingToRead: no digit is found.
    """
    strokes = magnify(ink, find_digit(ink, interior, allow_cut=allow_cut))
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


def find_digit(ink: np.ndarray, interior: np.ndarray, *, allow_cut: bool = True) -> np.ndarray:
    """Find the digit: the connected component with most ink, and the components near it that belong to it.

    A component that reaches beyond the interior (a finger, a neighbour, the desk) counts a tenth, or nothing.

    Args:
        ink: float32 (h, w), ink density, 0 to 1.
        interior: uint8 (h, w), 1 where the digit should lie.
        allow_cut: whether the digit may reach beyond the interior.

    Returns:
        uint8 (h, w), 1 on the digit.

    Raises:
        NothingToRead: there is no ink, only specks and lines, or too many things to choose from.
    """
    mask = threshold_ink(ink)
    gap = max(1, max(mask.shape) // 150)  # parts as close as this are one stroke, broken by the paper's grain
    linked = cv2.dilate(mask, np.ones((2 * gap + 1, 2 * gap + 1), np.uint8))
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(linked)
    inked = mask > 0
    mass = np.bincount(labels[inked], weights=ink[inked], minlength=count)  # (count,)
    mass[0] = 0  # the background
    mass[is_speck_or_line(boxes, mask.shape, gap)] = 0
    cut = np.bincount(labels[inked & (interior == 0)], minlength=count) > 0
    score = mass * np.where(cut, 0.1 if allow_cut else 0, 1)
    main = int(score.argmax())
    if score[main] == 0:
        raise NothingToRead("there is no ink in the picture but specks and lines")
    if (score > 0.3 * score[main]).sum() > 15:
        raise NothingToRead("there are too many things in the picture to say which is the digit")
    parts = is_near(boxes, main, gap) & (mass > 0.06 * mass[main]) & (~cut | cut[main])
    return mask * parts[labels].astype(np.uint8)


def threshold_ink(ink: np.ndarray) -> np.ndarray:
    """uint8 (h, w), 1 where ink density, float32 (h, w), stands out from the paper. Raises NothingToRead."""
    step = 1 + max(ink.shape) // 200
    sample = ink[::step, ::step]
    median = float(np.median(sample))
    noise = 1.4826 * float(np.median(np.abs(sample - median)))  # the standard deviation, if there were no ink
    floor = max(MIN_DENSITY, median + NOISE_MARGIN * noise)
    above = ink[ink > floor]
    if not above.size:
        raise NothingToRead("the picture is blank: no ink stands out from the paper")
    above = above[above >= otsu_threshold(above)]
    level = float((above**3).sum() / (above**2).sum())  # a mean in which dense ink counts most
    return (ink > max(floor, (level + median) / 2)).astype(np.uint8)


def otsu_threshold(values: np.ndarray) -> float:
    """The threshold, 0 to 1, that separates values of 0 to 1 best into low and high ones (Otsu 1979)."""
    threshold, _ = cv2.threshold((values * 255).astype(np.uint8).reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    return float(threshold) / 255


def is_speck_or_line(boxes: np.ndarray, shape: tuple[int, ...], gap: int) -> np.ndarray:
    """Which components are too small for a digit, or a notebook's lines from border to border: bool (count,).

    Args:
        boxes: int32 (count, 5): left, top, width, height and area of each component, widened by `gap` on each side.
        shape: height and width of the picture.
        gap: pixels.
    """
    height, width = shape
    wide, high = boxes[:, cv2.CC_STAT_WIDTH], boxes[:, cv2.CC_STAT_HEIGHT]
    specks = np.maximum(wide, high) - 2 * gap < max(5, 0.02 * max(shape))
    lines = (np.maximum(wide / width, high / height) > 0.95) & (np.minimum(wide, high) < 0.15 * min(shape))
    return specks | lines


def is_near(boxes: np.ndarray, main: int, gap: int) -> np.ndarray:
    """Which components are nearer to the main one than 0.3 of its longest side: bool (count,).

    `boxes` and `gap` are those of `is_speck_or_line`.
    """
    left, top, wide, high = (boxes[:, i] for i in range(4))
    distance_x = np.maximum(left - (left[main] + wide[main]), left[main] - (left + wide))
    distance_y = np.maximum(top - (top[main] + high[main]), top[main] - (top + high))
    return np.maximum(distance_x, distance_y) < 0.3 * (max(wide[main], high[main]) - 2 * gap)


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
