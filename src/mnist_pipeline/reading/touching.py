"""The parts that something in a picture may consist of: its pieces, or what is left and right of a cut through it."""

import contextlib
from itertools import combinations, pairwise

import cv2
import numpy as np

from .components import NothingToRead
from .normalisation import MARKER_WIDTH, Parts, Place

MAX_CUTS = 6
# All relative to the height of what is cut, or of the highest piece:
MIN_WIDTH = 0.75  # narrower things are a single digit, or the two legs of something else
MAX_INK = 0.4  # where a column has more, no two digits touch, but a stroke runs along it
MIN_PART_HEIGHT, MAX_PART_WIDTH = 0.4, 1.3  # lower and wider parts are no digit


def draw_parts(place: Place) -> Parts:
    """Draw each piece of a place alone and joined with its neighbours; a single piece is cut first."""
    pieces = cut(place.pieces[0]) if len(place.pieces) == 1 else place.pieces
    height = max(cv2.boundingRect(piece)[3] for piece in pieces)
    parts = {}
    for first, last in combinations(range(len(pieces) + 1), 2):
        mask = keep_large_components(np.bitwise_or.reduce(pieces[first:last]))
        _, _, wide, high = cv2.boundingRect(mask)
        is_everything = last - first == len(pieces)
        if is_everything or high <= MIN_PART_HEIGHT * height or wide >= MAX_PART_WIDTH * height:
            continue
        with contextlib.suppress(NothingToRead):
            item, stroke_width = place.draw(mask)
            if stroke_width <= MARKER_WIDTH:
                parts[first, last] = item
    return parts


def keep_large_components(mask: np.ndarray) -> np.ndarray:
    """Of a mask the largest connected component, and those that are at least a tenth as large."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask)
    area = statistics[:, cv2.CC_STAT_AREA]
    area[0] = 0
    return mask * (area > 0.1 * area.max())[labels]


def cut(mask: np.ndarray) -> list[np.ndarray]:
    """Cut ink, uint8 (h, w), at columns with little of it, where digits may touch: 1 to MAX_CUTS + 1 masks like it."""
    left, top, width, height = cv2.boundingRect(mask)
    if width < MIN_WIDTH * height:
        return [mask]
    ink = mask[top : top + height, left : left + width].sum(0).astype(np.float64)
    ink = cv2.GaussianBlur(ink[None], (0, 0), max(0.5, height / 40))[0]  # (width,), of each column
    margin = max(1, height // 8)  # no digit is narrower
    least_ink = np.argsort(ink[margin : width - margin], kind="stable") + margin
    most = min(MAX_CUTS, 1 + round(2 * width / height))
    cuts: list[int] = []
    for column in [*find_equal_widths(ink, height), *least_ink.tolist()]:
        is_far = all(abs(column - other) >= margin for other in cuts)
        if len(cuts) < most and is_far and ink[column] < MAX_INK * height:
            cuts.append(column)
    borders = [0, *(left + column for column in sorted(cuts)), mask.shape[1]]
    columns = np.arange(mask.shape[1])
    return [mask * ((columns >= start) & (columns < end)) for start, end in pairwise(borders)]


def find_equal_widths(ink: np.ndarray, height: int) -> list[int]:
    """The columns with least ink near where two digits of equal width would touch, in a wide piece three or more."""
    width = len(ink)
    reach = max(1, width // 10)  # columns that are searched on either side
    columns = []
    for digits in range(2, round(width / height) + 2):
        for border in range(1, digits):
            start = border * width // digits - reach
            if start >= 0:
                columns.append(start + int(ink[start : start + 2 * reach].argmin()))
    return columns
