"""The ink of a picture -> which of it belongs to which digit, in reading order."""

from typing import NamedTuple

import cv2
import numpy as np

MIN_DENSITY = 0.08  # what takes less than this part of the paper's brightness is no ink
NOISE_MARGIN = 4.0  # ink is denser than the paper by this many standard deviations of the paper's noise
MAX_DIGITS = 64  # in a picture
MAX_SEEDS = 256  # components of a digit's size, before those that belong together are joined
MAX_PIECES = 8  # things so close together that they may be one digit; of more, each is a thing of its own
NEAR = 0.3  # of a digit's longest side: its parts are not farther from each other


class NothingToRead(ValueError):
    """A picture was decoded, but no digit was found in it; the message says why."""


class Chain(NamedTuple):
    """Things so close to each other that they may be one digit in pieces, or several digits.

    Attributes:
        window: rows and columns of the picture around them.
        masks: of each thing, from left to right, what is in the window: uint8 (h, w), 1 on the thing.
    """

    window: tuple[slice, slice]
    masks: list[np.ndarray]


class Components(NamedTuple):
    """The connected components of the ink, the first of which is the paper.

    Attributes:
        mask: uint8 (h, w), 1 where there is ink.
        labels: int32 (h, w), the component of each pixel.
        boxes: int32 (count, 4): left, top, right and bottom of each component.
        mass: float (count,), the ink of each component; 0 for the paper, specks and ruled lines.
        density: float (count,), mean ink density of each component, 0 to 1.
        cut: bool (count,), which components reach beyond the interior.
        weight: float (count,), what their ink counts for that reason, 0 to 1.
    """

    mask: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    mass: np.ndarray
    density: np.ndarray
    cut: np.ndarray
    weight: np.ndarray


def find_digit(ink: np.ndarray, interior: np.ndarray, *, allow_cut: bool = True) -> Chain:
    """Find the digit: the connected component with most ink, and the components near it that belong to it.

    A component that reaches beyond the interior counts half, or nothing; a tenth if it does so along much of its side,
    as a finger, a neighbour or the desk does.

    Raises:
        NothingToRead: there is no ink, only specks and lines, or too many things to choose from.
    """
    found = find_components(ink, interior)
    main, score = choose_main(found, allow_cut)
    if (score > 0.3 * score[main]).sum() > 15:
        raise NothingToRead("there are too many things in the picture to say which is the digit")
    return make_chain(found, [set(np.flatnonzero(find_parts(found, main)).tolist())])


def find_digits(ink: np.ndarray, interior: np.ndarray, *, allow_cut: bool = True) -> list[Chain]:
    """Find every digit, in reading order: line by line, from left to right.

    What is at least half as high as the component with most ink is a digit of its own, unless it lies above, below or
    in another. Smaller components belong to the digit that they are near.

    Raises:
        NothingToRead: there is no ink, only specks and lines, or more than MAX_DIGITS things.
    """
    found = find_components(ink, interior)
    main, _ = choose_main(found, allow_cut)
    height = found.boxes[:, 3] - found.boxes[:, 1]
    usable = are_comparable(found, main) & (found.density > 0.5 * found.density[main])
    seeds = np.flatnonzero(usable & (height > 0.5 * height[main]))
    if len(seeds) == 1:
        return [make_chain(found, [set(np.flatnonzero(find_parts(found, main)).tolist())])]
    groups = join_overlapping(found.boxes, [{int(seed)} for seed in seeds]) if len(seeds) <= MAX_SEEDS else []
    if not 0 < len(groups) <= MAX_DIGITS:
        many = len(groups) or len(seeds)
        raise NothingToRead(f"there are {many} things in the picture; at most {MAX_DIGITS} digits are read")
    boxes = [union_box(found.boxes, group) for group in groups]
    for part in np.flatnonzero(usable & (height <= 0.5 * height[main])):
        box, around = found.boxes[part], np.array(boxes)
        distances = np.maximum(box[:2] - around[:, 2:], around[:, :2] - box[2:]).max(1)
        nearest = int(np.argmin(distances))
        if distances[nearest] < NEAR * longest_side(boxes[nearest]):
            groups[nearest].add(int(part))
            boxes[nearest] = union_box(np.array([boxes[nearest], box]), {0, 1})
    chains = [chain for line in find_lines(boxes) for chain in find_chains(boxes, line)]
    return [make_chain(found, [groups[k] for k in chain]) for chain in chains]


def make_chain(found: Components, groups: list[set[int]]) -> Chain:
    """The chain of these groups of components; its window leaves room for what lies around them."""
    box = union_box(found.boxes, set.union(*groups))
    left, top, right, bottom = box.tolist()
    margin = longest_side(box) // 4 + max(found.mask.shape) // 100 + 4
    window = np.s_[max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin]
    labels, mask = found.labels[window], found.mask[window]
    masks = []
    for group in groups:
        members = np.zeros(len(found.mass), np.uint8)
        members[[*group]] = 1
        masks.append(mask * members[labels])
    return Chain(window, masks)


def find_components(ink: np.ndarray, interior: np.ndarray) -> Components:
    """Find the connected components of ink, float32 (h, w). Raises NothingToRead where none is a digit's size."""
    mask = threshold_ink(ink)
    gap = max(1, max(mask.shape) // 150)  # parts as close as this are one stroke, broken by the paper's grain
    linked = cv2.dilate(mask, np.ones((2 * gap + 1, 2 * gap + 1), np.uint8))
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(linked)
    inked = mask > 0
    mass = np.bincount(labels[inked], weights=ink[inked], minlength=count)  # (count,)
    density = mass / np.maximum(np.bincount(labels[inked], minlength=count), 1)
    mass[0] = 0  # the paper
    corners = statistics[:, :2] + gap, statistics[:, :2] + statistics[:, 2:4] - gap
    boxes = np.concatenate(corners, 1)
    outside = np.bincount(labels[inked & (interior == 0)], minlength=count)
    specks, lines = are_specks(boxes, mask.shape), are_ruled_lines(boxes, mask.shape, outside > 0)
    mass[specks] = 0
    upright = lines & (boxes[:, 3] - boxes[:, 1] > boxes[:, 2] - boxes[:, 0])
    if upright.sum() > 1 or (mass[~lines] > 0.1 * mass[lines].sum()).any():  # a single upright line may be a 1
        upright[:] = False
    mass[lines & ~upright] = 0
    if not mass.any():
        raise NothingToRead("there is no ink in the picture but specks and lines")
    wide = outside > 0.4 * (boxes[:, 2:] - boxes[:, :2]).max(1)
    weight = np.where(outside == 0, 1, np.where(wide, 0.1, 0.5))
    return Components(mask, labels, boxes, mass, density, outside > 0, weight)


def choose_main(found: Components, allow_cut: bool) -> tuple[int, np.ndarray]:
    """The component that is most likely a digit, and the score of each: float (count,). Raises NothingToRead."""
    score = found.mass * (found.weight if allow_cut else ~found.cut)
    main = int(score.argmax())
    if score[main] == 0:
        raise NothingToRead("there is no ink in the picture but specks and lines")
    return main, score


def find_parts(found: Components, main: int) -> np.ndarray:
    """Which components belong to the main one: bool (count,)."""
    reach = NEAR * longest_side(found.boxes[main])
    near = np.array([distance(box, found.boxes[main]) < reach for box in found.boxes])
    return near & are_comparable(found, main)


def are_comparable(found: Components, main: int) -> np.ndarray:
    """Which components have ink enough to be digits or parts of one beside the main one: bool (count,).

    What reaches beyond the interior is none, unless the main one does so too.
    """
    return (found.mass > 0.06 * found.mass[main]) & (~found.cut | found.cut[main])


def join_overlapping(boxes: np.ndarray, groups: list[set[int]]) -> list[set[int]]:
    """Join groups of components that are near each other and lie one above or in the other.

    Of three groups or more that are not all one below the other, two that are much higher together than most of them
    are digits of two lines.
    """
    while True:
        around = np.array([union_box(boxes, group) for group in groups])  # (N, 4)
        low, high = around[:, :2], around[:, 2:]
        sides = high - low
        shared = np.minimum(high[:, None, 0], high[None, :, 0]) - np.maximum(low[:, None, 0], low[None, :, 0])
        narrower = np.minimum(sides[:, None, 0], sides[None, :, 0])
        apart = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).max(2)  # (N, N), below 0: they overlap
        longest = sides.max(1)
        near = apart < NEAR / 2 * np.maximum(longest[:, None], longest[None])
        height = np.maximum(high[:, None, 1], high[None, :, 1]) - np.minimum(low[:, None, 1], low[None, :, 1])
        one_column = low[:, 0].max() < high[:, 0].min()
        highest = np.inf if one_column or len(groups) == 2 else 1.4 * float(np.median(sides[:, 1]))
        joins = np.argwhere(np.triu(near & (shared > 0.6 * narrower) & (height < highest), 1))
        if not len(joins):
            return groups
        first, second = joins[0]
        rest = [group for k, group in enumerate(groups) if k not in (first, second)]
        groups = [*rest, groups[first] | groups[second]]


def find_lines(boxes: list[np.ndarray]) -> list[list[int]]:
    """Indices of boxes line by line, each from left to right.

    A box belongs to the line whose last box it overlaps in height by half of the lower of the two.
    """
    lines: list[list[int]] = []
    for k in sorted(range(len(boxes)), key=lambda k: int(boxes[k][0])):
        for line in lines:
            last = boxes[line[-1]]
            shared = min(last[3], boxes[k][3]) - max(last[1], boxes[k][1])
            if shared > 0.5 * min(last[3] - last[1], boxes[k][3] - boxes[k][1]):
                line.append(k)
                break
        else:
            lines.append([k])
    return sorted(lines, key=lambda line: float(np.mean([boxes[k][1] + boxes[k][3] for k in line])))


def find_chains(boxes: list[np.ndarray], line: list[int]) -> list[list[int]]:
    """Divide a line of boxes into chains, which are close to each other and together not much wider than high.

    Of a chain of more than MAX_PIECES, each box is a chain of its own: no digit is written in so many pieces.
    """
    chains: list[list[int]] = []
    for k in line:
        if chains:
            left, top, right, bottom = union_box(np.array(boxes), {*chains[-1], k})
            gap = boxes[k][0] - boxes[chains[-1][-1]][2]
            if gap < NEAR * (bottom - top) and right - left < 1.3 * (bottom - top):
                chains[-1].append(k)
                continue
        chains.append([k])
    return [part for chain in chains for part in ([chain] if len(chain) <= MAX_PIECES else [[k] for k in chain])]


def union_box(boxes: np.ndarray, group: set[int]) -> np.ndarray:
    """The box around a group of boxes: left, top, right, bottom."""
    chosen = boxes[[*group]]
    return np.concatenate([chosen[:, :2].min(0), chosen[:, 2:].max(0)])


def longest_side(box: np.ndarray) -> int:
    """Of a box, in pixels."""
    return int(max(box[2] - box[0], box[3] - box[1]))


def distance(one: np.ndarray, other: np.ndarray) -> int:
    """Pixels between two boxes along the axis in which they are farther apart; below 0: they overlap."""
    return int(np.maximum(one[:2] - other[2:], other[:2] - one[2:]).max())


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


def are_specks(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Which components, with boxes (count, 4) in a picture of this shape, are too small for a digit: bool (count,)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return sides.max(1) < max(5, 0.02 * max(shape))


def are_ruled_lines(boxes: np.ndarray, shape: tuple[int, ...], cut: np.ndarray) -> np.ndarray:
    """Which components, with boxes (count, 4), are lines from border to border, like a notebook's: bool (count,).

    A flat line that is `cut`, bool (count,), goes on beyond the border.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    from_border_to_border = (sides / np.array(shape[1::-1])).max(1) > 0.95
    flat = sides[:, 1] < 0.1 * sides[:, 0]
    return (from_border_to_border & (sides.min(1) < 0.15 * min(shape))) | (cut & flat)
