"""MNIST's form of a digit: within 20x20 pixels, its centre of mass in the middle of 28x28 (LeCun et al. 1998)."""

import cv2
import numpy as np

SIDE = 28  # pixels: height and width of an image
BOX = 20  # pixels: side of the square that the ink fits


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
