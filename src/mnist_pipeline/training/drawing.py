"""Draws strokes and glyphs as MNIST would hold them: within 20x20 pixels, centred by mass in 28x28."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mnist_pipeline.centring import BOX, SIDE, centre_by_mass

Points = NDArray[np.float64]  # (n, 2): x to the right, y down, about 0 to 1
Ink = NDArray[np.uint8]  # 255 where a pen was, 0 elsewhere

FINE = 4  # strokes are drawn at this many times the resolution
FONTS = Path(mpl.get_data_path()) / "fonts/ttf"  # matplotlib's own


def draw_strokes(strokes: Sequence[Points], width: float) -> Ink:
    """Draw pen strokes, each a line through points or a dot, `width` pixels of the 28 wide: uint8 (28, 28)."""
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    thickness = max(1, round(width * FINE))
    scale = (BOX * FINE - thickness) / max(float((high - low).max()), 1e-6)
    canvas = np.zeros([round(float(extent) * scale) + 3 * thickness for extent in (high - low)[::-1]], np.uint8)
    for stroke in strokes:
        pixels = ((stroke - low) * scale + 1.5 * thickness).round().astype(np.int32)
        cv2.polylines(canvas, [pixels[:, None]], False, 255, thickness)
    return normalise(canvas)


def draw_glyph(text: str, font: str, widening: float, warp: NDArray[np.float64]) -> Ink:
    """Draw text, its strokes `widening` pixels of the 28 thicker, turned or stretched by `warp` (2, 2): (28, 28)."""
    opened = open_font(font)
    left, top, right, bottom = opened.getbbox(text)
    margin = 40
    image = Image.new("L", (round(right - left) + 2 * margin, round(bottom - top) + 2 * margin))
    ImageDraw.Draw(image).text((margin - left, margin - top), text, 255, opened)
    glyph = np.asarray(image)
    pixels = round(abs(widening) * FINE * (bottom - top) / (BOX * FINE) / 2)
    if pixels:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
        changed = cv2.dilate(glyph, kernel) if widening > 0 else cv2.erode(glyph, kernel)
        glyph = changed if changed.max() > 200 else glyph
    centre = np.array(glyph.shape[::-1]) / 2
    size = np.ceil(np.abs(warp) @ np.array(glyph.shape[::-1])).astype(int)
    matrix = np.column_stack([warp, size / 2 - warp @ centre])
    return normalise(np.asarray(cv2.warpAffine(glyph, matrix, (int(size[0]), int(size[1]))), np.uint8))


@lru_cache(maxsize=64)
def open_font(name: str) -> ImageFont.FreeTypeFont:
    """One of matplotlib's fonts, at four times the size of MNIST's digits."""
    return ImageFont.truetype(FONTS / f"{name}.ttf", round(BOX * FINE * 1.3))


def normalise(ink: Ink) -> Ink:
    """Scale ink, uint8 (h, w), so that its longer side is 20 pixels, and centre it by mass: uint8 (28, 28)."""
    left, top, width, height = cv2.boundingRect((ink > 64).astype(np.uint8))
    if not width:
        return np.zeros((SIDE, SIDE), np.uint8)
    scale = BOX / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(ink[top : top + height, left : left + width], size, interpolation=cv2.INTER_AREA)
    return centre_by_mass(small)


def smooth(points: Points, closed: bool = False) -> Points:
    """Round the corners of a line through points (Chaikin 1974): three times each corner is cut at its quarters."""
    for _ in range(3):
        following = np.roll(points, -1, 0) if closed else points[1:]
        start = points if closed else points[:-1]
        cut = np.stack([0.75 * start + 0.25 * following, 0.25 * start + 0.75 * following], 1).reshape(-1, 2)
        points = cut if closed else np.concatenate([points[:1], cut, points[-1:]])
    return np.concatenate([points, points[:1]]) if closed else points
