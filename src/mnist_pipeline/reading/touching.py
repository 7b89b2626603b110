"""Where a connected piece of ink may consist of several digits that touch."""

import cv2
import numpy as np

MAX_CUTS = 6


def cut_columns(mask: np.ndarray) -> list[int]:
    """Columns at which a piece of ink may be cut into digits, from its left side to its right side.

    Cuts lie where a column has least ink nearby; wide pieces get more of them.

    Args:
        mask: uint8 (h, w), 1 on the ink.

    Returns:
        2 to MAX_CUTS + 2 columns, ascending; the first and the last are the sides of the ink.
    """
    left, top, width, height = cv2.boundingRect(mask)
    ink = mask[top : top + height, left : left + width].sum(0).astype(np.float64)
    ink = cv2.GaussianBlur(ink[None], (0, 0), max(0.5, height / 40))[0]
    distance = max(2, height // 8)
    cuts: list[int] = []
    margin = max(1, height // 8)
    for column in np.argsort(ink[margin : width - margin], kind="stable") + margin:
        if len(cuts) < min(MAX_CUTS, 1 + round(2 * width / height)) and all(abs(column - cut) >= distance for cut in cuts):
            cuts.append(int(column))
    return [left, *(left + cut for cut in sorted(cuts)), left + width]
