"""The ink of a picture -> which of it belongs to which digit, in reading order."""

from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np

MIN_DENSITY = 0.08  # what takes less than this part of the paper's brightness is no ink
NOISE_MARGIN = 4.0  # ink is denser than the paper by this many standard deviations of the paper's noise
MAX_DIGITS = 64  # in a picture
MAX_SEEDS = 256  # components of a digit's size, before those that belong together are joined
MAX_PIECES = 8  # things so close together that they may be one digit; of more, each is a thing of its own
NEAR = 0.3  # of a digit's longest side: its parts are not farther from each other
NO_INK = "there is no ink in the picture but specks and lines"


class NothingToRead(ValueError):
    """A picture in which no digit was found; the message says why."""


class Chain(NamedTuple):
    """Things so close to each other that they may be one digit in pieces, or several digits."""

    window: tuple[slice, slice]  # rows and columns of the picture around them
    masks: list[np.ndarray]  # of each thing, from left to right: uint8 (h, w) of the window, 1 on the thing


class Components(NamedTuple):
    """The connected components of the ink, the first of which is the paper."""

    mask: np.ndarray  # uint8 (h, w), 1 where there is ink
    labels: np.ndarray  # int32 (h, w), the component of each pixel
    boxes: np.ndarray  # int32 (count, 4): left, top, right and bottom of each component
    mass: np.ndarray  # float (count,), the ink of each component; 0 for the paper, specks and ruled lines
    density: np.ndarray  # float (count,), mean ink density of each component, 0 to 1
    outside: np.ndarray  # int (count,), pixels of each component that lie beyond the interior


def find_digits(ink: np.ndarray, interior: np.ndarray, *, allow_cut: bool, single: bool) -> list[Chain]:
    """Find every digit in ink density, float32 (h, w), 0 to 1, in reading order: line by line, from left to right.

    What is at least half as high as the component with most ink is a digit of its own, unless it lies above, below or
    in another. Smaller components belong to the digit that they are near. `interior`, uint8 (h, w), is 1 where digits
    should lie; without `allow_cut` none reaches beyond it. `single`: only the one with most ink is wanted. Raises
    NothingToRead where there is no ink, only specks and lines, or too many things.
    """
    found = find_components(ink, interior)
    height, longest = found.boxes[:, 3] - found.boxes[:, 1], longest_side(found.boxes)
    cut = found.outside > 0
    # Fingers, neighbours and the desk are cut along much of their side.
    weight = np.where(cut, np.where(found.outside > 0.4 * longest, 0.1, 0.5), 1)
    score = found.mass * (weight if allow_cut else ~cut)
    main = int(score.argmax())  # the component that is most likely a digit
    if score[main] == 0:
        raise NothingToRead(NO_INK)
    if single and (score > 0.3 * score[main]).sum() > 15:
        raise NothingToRead("there are too many things in the picture to say which is the digit")
    # A digit, or a part of one, has enough ink. It is not cut, unless the main component is cut too.
    comparable = (found.mass > 0.06 * found.mass[main]) & (~cut | cut[main])
    usable = comparable & (found.density > 0.5 * found.density[main])
    is_high = height > 0.5 * height[main]
    seeds = np.flatnonzero(usable & is_high).tolist()
    if single or len(seeds) < 2:
        near = distance(found.boxes, found.boxes[main]) < NEAR * longest[main]
        return [make_chain(found, [np.flatnonzero(near & comparable).tolist()])]
    groups = [[seed] for seed in seeds]
    if len(groups) <= MAX_SEEDS:
        groups = join_overlapping(found.boxes, groups)
    if len(groups) > MAX_DIGITS:
        raise NothingToRead(f"there are {len(groups)} things in the picture; at most {MAX_DIGITS} digits are read")
    boxes = np.array([union_box(found.boxes[group]) for group in groups])
    for part in np.flatnonzero(usable & ~is_high).tolist():
        distances = distance(found.boxes[part], boxes)
        nearest = int(distances.argmin())
        if distances[nearest] < NEAR * longest_side(boxes[nearest]):
            groups[nearest].append(part)
            boxes[nearest] = union_box(np.stack([boxes[nearest], found.boxes[part]]))
    chains = [chain for line in find_lines(boxes) for chain in find_chains(boxes, line)]
    return [make_chain(found, [groups[k] for k in chain]) for chain in chains]


def make_chain(found: Components, groups: list[list[int]]) -> Chain:
    """The chain of these groups of components; its window leaves room for what lies around them."""
    box = union_box(found.boxes[np.concatenate(groups)])
    left, top, right, bottom = box.tolist()
    margin = int(longest_side(box)) // 4 + max(found.mask.shape) // 100 + 4
    window = np.s_[max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin]
    return Chain(window, [found.mask[window] * np.isin(found.labels[window], group) for group in groups])


def find_components(ink: np.ndarray, interior: np.ndarray) -> Components:
    """Find the connected components of ink, float32 (h, w)."""
    mask = threshold_ink(ink)
    gap = max(1, max(mask.shape) // 150)  # parts as close as this are one stroke, broken by the paper's grain
    linked = cv2.dilate(mask, np.ones((2 * gap + 1, 2 * gap + 1), np.uint8))
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(linked)
    boxes = np.concatenate([statistics[:, :2] + gap, statistics[:, :2] + statistics[:, 2:4] - gap], 1)
    inked = mask > 0
    mass = np.bincount(labels[inked], weights=ink[inked], minlength=count)  # (count,)
    density = mass / np.maximum(np.bincount(labels[inked], minlength=count), 1)
    outside = np.bincount(labels[inked & (interior == 0)], minlength=count)
    mass[0] = 0  # the paper
    mass[longest_side(boxes) < max(5, 0.02 * max(mask.shape))] = 0  # specks are too small for a digit
    mass[are_ruled_lines(boxes, mask.shape, outside > 0, mass)] = 0
    return Components(mask, labels, boxes, mass, density, outside)


def are_ruled_lines(boxes: np.ndarray, shape: tuple[int, ...], cut: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Which components are lines from border to border, like a notebook's: bool (count,)."""
    sides = boxes[:, 2:] - boxes[:, :2]  # (count, 2), width and height
    from_border_to_border = (sides / np.array(shape[1::-1])).max(1) > 0.95
    thin = sides.min(1) < 0.15 * min(shape)
    flat = sides[:, 1] < 0.1 * sides[:, 0]
    lines: np.ndarray = (from_border_to_border & thin) | (cut & flat)
    upright = lines & (sides[:, 1] > sides[:, 0])
    has_other_ink = (mass[~lines] > 0.1 * mass[lines].sum()).any()
    if upright.sum() == 1 and not has_other_ink:  # a single upright line is a 1
        return lines & ~upright
    return lines


def join_overlapping(boxes: np.ndarray, groups: list[list[int]]) -> list[list[int]]:
    """Join groups of components that are near each other and lie one above or in the other, but no two lines."""
    while True:
        around = np.array([union_box(boxes[group]) for group in groups])  # (N, 4)
        one, other = around[:, None], around[None]  # the matrices below are (N, N), of pairs of groups
        width, height = (around[:, 2:] - around[:, :2]).T
        shared_width = np.minimum(one[..., 2], other[..., 2]) - np.maximum(one[..., 0], other[..., 0])
        joint_height = np.maximum(one[..., 3], other[..., 3]) - np.minimum(one[..., 1], other[..., 1])
        near = distance(one, other) < NEAR / 2 * np.maximum(longest_side(one), longest_side(other))
        stacked = shared_width > 0.6 * np.minimum(width[:, None], width)
        one_column = around[:, 0].max() < around[:, 2].min()
        # Where groups stand side by side, two that are much higher together than most are digits of two lines.
        highest = np.inf if one_column or len(groups) == 2 else 1.4 * float(np.median(height))
        joins = np.argwhere(np.triu(near & stacked & (joint_height < highest), 1)).tolist()
        if not joins:
            return groups
        first, second = joins[0]
        groups.append(groups.pop(second) + groups.pop(first))


def find_lines(boxes: np.ndarray) -> list[list[int]]:
    """Indices of boxes line by line: a box overlaps its line's last box by half the height of the lower one."""
    lines: list[list[int]] = []
    for k in np.argsort(boxes[:, 0], kind="stable").tolist():
        for line in lines:
            last = boxes[line[-1]]
            shared = min(last[3], boxes[k][3]) - max(last[1], boxes[k][1])
            if shared > 0.5 * min(last[3] - last[1], boxes[k][3] - boxes[k][1]):
                line.append(k)
                break
        else:
            lines.append([k])
    return sorted(lines, key=lambda line: float(boxes[line][:, [1, 3]].sum(1).mean()))


def find_chains(boxes: np.ndarray, line: list[int]) -> list[list[int]]:
    """Divide a line of boxes into chains, which are close to each other and together not much wider than high."""
    chains = [line[:1]]
    for last, k in pairwise(line):
        left, top, right, bottom = union_box(boxes[[*chains[-1], k]])
        gap, width, height = boxes[k][0] - boxes[last][2], right - left, bottom - top
        if gap < NEAR * height and width < 1.3 * height:
            chains[-1].append(k)
        else:
            chains.append([k])
    result = []
    for chain in chains:
        result += [chain] if len(chain) <= MAX_PIECES else [[k] for k in chain]
    return result


def union_box(boxes: np.ndarray) -> np.ndarray:
    """The box around boxes, int32 (count, 4)."""
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])


def longest_side(boxes: np.ndarray) -> Any:
    """Of each box (..., 4), in pixels: (...)."""
    return (boxes[..., 2:] - boxes[..., :2]).max(-1)


def distance(one: np.ndarray, other: np.ndarray) -> Any:
    """Pixels (...) between boxes (..., 4) along the axis in which they are farther apart; below 0: they overlap."""
    return np.maximum(one[..., :2] - other[..., 2:], other[..., :2] - one[..., 2:]).max(-1)


def threshold_ink(ink: np.ndarray) -> np.ndarray:
    """Make a mask, uint8 (h, w), 1 where ink density, float32 (h, w), stands out from the paper."""
    step = 1 + max(ink.shape) // 200
    sample = ink[::step, ::step]
    median = float(np.median(sample))
    noise = 1.4826 * float(np.median(np.abs(sample - median)))  # the standard deviation, if there were no ink
    floor = max(MIN_DENSITY, median + NOISE_MARGIN * noise)
    above = ink[ink > floor]
    if not above.size:
        raise NothingToRead("the picture is blank: no ink stands out from the paper")
    levels = (above * 255).astype(np.uint8).reshape(1, -1)
    otsu, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)  # separates dense from faint ink best (Otsu 1979)
    above = above[above >= float(otsu) / 255]
    level = float((above**3).sum() / (above**2).sum())  # a mean in which dense ink counts most
    return (ink > max(floor, (level + median) / 2)).astype(np.uint8)
