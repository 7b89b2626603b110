"""Where a connected piece of ink may consist of several digits that touch."""

from itertools import pairwise

import cv2
import numpy as np

MAX_CUTS = 6
MIN_WIDTH = 0.75  # of the height: narrower things are a single digit, or the two legs of something else
MAX_INK = 0.4  # of the height: where a column has more, no two digits touch, but a stroke runs along it


def cut(mask: np.ndarray) -> list[np.ndarray]:
    """Cut a piece of ink where digits may touch: at columns with little ink.

    The first are those near the middle, or near the thirds of a wide piece, where digits of equal width would touch;
    then come those with least ink.

    Args:
        mask: uint8 (h, w), 1 on the ink.

    Returns:
        1 to MAX_CUTS + 1 masks like it, from left to right.
    """
    left, top, width, height = cv2.boundingRect(mask)
    if width < MIN_WIDTH * height:
        return [mask]
    ink = mask[top : top + height, left : left + width].sum(0).astype(np.float64)
    ink = cv2.GaussianBlur(ink[None], (0, 0), max(0.5, height / 40))[0]
    margin = max(1, height // 8)
    expected = [k * width // count for count in range(2, 2 + round(width / height)) for k in range(1, count)]
    reach = max(1, width // 10)
    near = [
        column - reach + int(ink[column - reach : column + reach].argmin()) for column in expected if column >= reach
    ]
    least = np.argsort(ink[margin : width - margin], kind="stable") + margin
    cuts: list[int] = []
    for column in [*near, *least.tolist()]:
        apart = all(abs(column - other) >= margin for other in cuts)
        if apart and ink[column] < MAX_INK * height and len(cuts) < min(MAX_CUTS, 1 + round(2 * width / height)):
            cuts.append(column)
    borders = [0, *(left + column for column in sorted(cuts)), mask.shape[1]]
    pieces = []
    for start, end in pairwise(borders):
        piece = np.zeros_like(mask)
        piece[:, start:end] = mask[:, start:end]
        pieces.append(piece)
    return pieces
