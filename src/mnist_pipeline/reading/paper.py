"""The pixels of a picture -> how much ink is on each.

Pictures are uint8 (h, w) or (h, w, 3) in RGB, channels uint8 (h, w), densities float32 (h, w) from 0 (paper) to 1, and
masks uint8 (h, w) of 0 and 1. The thresholds were tuned on rendered photographs.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from .decoding import border_of, to_grey

EVEN = 4  # grey levels by which the pixels of even paper differ from each other: compression is not exact
BLUR = 0.3  # pixels, and one more for every 800 of the picture: less shows the paper's grain, more joins strokes


class Way(NamedTuple):
    """A way to read a picture."""

    density: Callable[[], np.ndarray]  # computes the ink density, float32 (h, w), 0 to 1
    interior: np.ndarray  # uint8 (h, w), 1 where digits should lie
    on_paper: bool = False  # whether the interior is a sheet of paper on a desk, which no digit reaches beyond


def list_ways(picture: np.ndarray) -> list[Way]:
    """The ways to read a decoded picture, the likeliest first: on the paper, if a desk is seen around it, or anywhere.

    On even paper, such as a screen's, ink is what differs from it. Otherwise the likelier polarity is tried first.
    """
    channel, dark_ink = choose_channel(picture)
    paper, level = find_paper(picture), find_even_paper(channel)
    interior = interior_mask(picture.shape)
    ways = []
    if paper is not None:
        inside = erode(paper, 1 + max(paper.shape) // 128) & interior
        ways.append(Way(lambda: ink_density(*choose_channel(extend_paper(picture, paper))), inside, on_paper=True))
        dark_ink = bool(channel[paper > 0].mean() > channel[paper == 0].mean())
    if level is not None:
        ways.append(Way(partial(even_density, channel, level), interior))
    else:
        ways += [Way(partial(ink_density, channel, dark), interior) for dark in (dark_ink, not dark_ink)]
    return ways


def find_paper(picture: np.ndarray) -> np.ndarray | None:
    """The mask of the paper, but for a margin, if a desk is around it: a large region with straight and sharp edges."""
    small = downscale(to_grey(picture), 128)
    _, bright = cv2.threshold(small, 0, 1, cv2.THRESH_OTSU)
    if small.size < 1000 or bright.min() == bright.max():
        return None
    for region in (bright, 1 - bright):
        paper = find_rectangle(region)
        if paper is not None and has_sharp_edge(small, bright, paper):
            inner = cv2.resize(erode(paper, 2), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
            return inner & interior_mask(picture.shape)
    return None


def find_rectangle(region: np.ndarray) -> np.ndarray | None:
    """The mask of the convex hull of a region's largest part, if it is close to a rectangle that the region fills."""
    outlines, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outline = max(outlines, key=cv2.contourArea)
    area, hull = cv2.contourArea(outline), cv2.convexHull(outline)
    (_, (width, height), _) = cv2.minAreaRect(hull)
    straight = area > 0.93 * cv2.contourArea(hull) and cv2.contourArea(hull) > 0.82 * width * height
    if not straight or not 0.15 < area / region.size < 0.95:
        return None
    paper = cv2.fillPoly(np.zeros_like(region), [hull], 1)
    # A closed stroke, or what it encloses, does not fill its hull and little else.
    is_filled = region[paper > 0].mean() > 0.7 and region[paper == 0].sum() <= 0.5 * (paper == 0).sum()
    return paper if is_filled else None


def has_sharp_edge(grey: np.ndarray, bright: np.ndarray, paper: np.ndarray) -> bool:
    """Whether brightness changes abruptly along the paper's outline; along the edge of a shadow it changes slowly."""
    high, low = float(grey[bright > 0].mean()), float(grey[bright == 0].mean())
    between = np.abs(grey - (high + low) / 2) < (high - low) / 4
    edge = (1 - erode(1 - paper, 4)) - erode(paper, 4)
    return high - low > 40 and bool(between[edge > 0].sum() < 0.2 * edge.sum())


def extend_paper(picture: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """Replace all but the paper by a blur over its pixels: normalised convolution (Knutsson and Westin 1993)."""
    weight: np.ndarray = cv2.erode(downscale(paper.astype(np.float32), 64), np.ones((3, 3), np.uint8))
    colour = downscale(picture, 64).astype(np.float32).reshape(*weight.shape, -1)  # (h, w, channels)
    mean = (colour * weight[..., None]).sum((0, 1)) / max(float(weight.sum()), 1e-6)  # (channels,)
    blurred = np.dstack([cv2.GaussianBlur(channel * weight, (0, 0), 8) for channel in cv2.split(colour)])
    total = cv2.GaussianBlur(weight, (0, 0), 8)[..., None]
    smooth = (blurred + 1e-3 * mean) / (total + 1e-3)  # far from the paper, its mean colour
    result = cv2.resize(smooth, picture.shape[1::-1]).reshape(picture.shape).astype(np.uint8)
    result[paper > 0] = picture[paper > 0]
    return result


def choose_channel(picture: np.ndarray) -> tuple[np.ndarray, bool]:
    """Choose brightness, red, green or blue: where ink stands out most, and whether it is darker than paper there.

    Ink is what differs from the median around it. The widest median sees thick strokes whole; narrower ones are not
    misled by corners of shadows and desks.
    """
    small = downscale(picture, 64)
    candidates = [small] if picture.ndim == 2 else [to_grey(small), *cv2.split(small)]
    best, chosen, dark_ink = -1.0, 0, True
    for k, candidate in enumerate(candidates):
        medians = [cv2.medianBlur(candidate, min(candidate.shape) // part | 1) for part in (2, 4, 6)]
        differences = candidate.astype(np.float32) - np.stack(medians)  # (3, h, w)
        cubes = differences * differences * differences  # exact, as a power is, and faster
        score = float(np.abs(cubes).mean()) * (2 if k == 0 else 1)  # the other channels are noisier in a JPEG
        if score > best:
            best, chosen, dark_ink = score, k, bool(cubes.sum() <= 0)
    return to_grey(picture) if chosen == 0 else cv2.extractChannel(picture, chosen - 1), dark_ink


def ink_density(channel: np.ndarray, dark_ink: bool) -> np.ndarray:
    """1 - brightness / brightness of the paper there; shadows, colours and the polarity of the ink do not matter."""
    values = channel if dark_ink else 255 - channel
    brightness = blur(values.astype(np.float32))
    return np.clip(1 - brightness / np.maximum(estimate_paper_brightness(brightness), 1), 0, 1)


def find_even_paper(channel: np.ndarray) -> int | None:
    """The brightness, 0 to 255, of a screen's or a scan's even paper; None where a shadow or a desk is seen."""
    step = 1 + max(channel.shape) // 400
    counts = np.bincount(channel[::step, ::step].ravel(), minlength=256)
    alike = np.convolve(counts, np.ones(2 * EVEN + 1, int), "same")  # (256,), pixels about as bright
    lowest = max(int(alike.argmax()) - EVEN, 0)
    level = lowest + int(counts[lowest : lowest + 2 * EVEN + 1].argmax())
    border = border_of(channel).astype(int)
    is_even = alike.max() > 0.5 * counts.sum() and (np.abs(border - level) <= EVEN).mean() > 0.7
    return level if is_even else None


def even_density(channel: np.ndarray, level: int) -> np.ndarray:
    """Ink density where all paper has the same brightness: strokes may be wide, or lie along the border."""
    values = blur(channel.astype(np.float32))
    darker, brighter = np.maximum(level - values - EVEN, 0), np.maximum(values - level - EVEN, 0)
    return (darker if darker.sum() >= brighter.sum() else brighter) / max(level, 255 - level)


def blur(values: np.ndarray) -> np.ndarray:
    """Smooth a picture's grain: float32 (h, w)."""
    return cv2.GaussianBlur(values, (0, 0), BLUR + max(values.shape) / 800)


def estimate_paper_brightness(brightness: np.ndarray) -> np.ndarray:
    """Brightness that the paper would have without ink: a closing wider than any stroke keeps the edges of shadows."""
    small = downscale(brightness, 256)
    width = max(1, int(0.15 * min(small.shape)))
    # With its border repeated outside, a desk along the border is taken for paper and not for ink.
    padded = cv2.copyMakeBorder(small, width, width, width, width, cv2.BORDER_REPLICATE)
    padded = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((2 * width + 1, 2 * width + 1), np.uint8))
    small = padded[width:-width, width:-width]
    if small.shape != brightness.shape:  # an edge that is one pixel off must not look like a stroke
        small = cv2.erode(small, np.ones((3, 3), np.uint8))
    return cv2.resize(small, brightness.shape[::-1], interpolation=cv2.INTER_LINEAR)


def interior_mask(shape: tuple[int, ...]) -> np.ndarray:
    """The mask of all but a picture's outermost pixels."""
    mask = np.zeros(shape[:2], np.uint8)
    mask[1:-1, 1:-1] = 1
    return mask


def erode(mask: np.ndarray, radius: int) -> np.ndarray:
    """Remove a margin of `radius` pixels from a mask, uint8 (h, w), except where the picture's border cuts it."""
    return cv2.erode(mask, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8), borderType=cv2.BORDER_REPLICATE)


def downscale(values: np.ndarray, side: int) -> np.ndarray:
    """Scale an array (h, w) or (h, w, 3) so that its longer side is `side` pixels; smaller ones stay as they are."""
    scale = side / max(values.shape)
    return values if scale >= 1 else rescale(values, scale)


def rescale(values: np.ndarray, scale: float) -> np.ndarray:
    """Scale the height and width of an array (h, w) or (h, w, 3), each to at least one pixel."""
    size = max(1, round(values.shape[1] * scale)), max(1, round(values.shape[0] * scale))
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
