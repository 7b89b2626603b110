"""Generates images that show no digit, so that training can teach the network what it does not know.

Hendrycks et al., "Deep Anomaly Detection with Outlier Exposure" (arXiv 1812.04606), with generated images in the place
of another dataset.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnist_pipeline.centring import SIDE
from mnist_pipeline.data.catalogue import DIGITS
from mnist_pipeline.data.dataset import Examples
from mnist_pipeline.training.digit_forms import random_warp
from mnist_pipeline.training.drawing import Ink, Points, draw_glyph, draw_strokes, normalise, smooth

# Letters, but those that somebody may write like a digit: O o 0, I i l 1, S s 5, Z z 2, B 8, b 6, g q 9.
LETTERS = "ACDEFGHJKLMNPQRTUVWXYacdefhjkmnprtuvwxy"
SIGNS = "#%&@?+=<>*$~{}[]:;^"
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol"),
    *("STIXGeneralItalic", "STIXGeneralBolIta"),
)


class Sources:
    """The images that outliers are made of, uint8 (N, 1, 28, 28), by their labels."""

    def __init__(self, examples: Examples) -> None:
        images, labels = examples.images[:, 0].numpy(), examples.labels.numpy()
        self.by_label = {int(label): images[labels == label] for label in np.unique(labels)}

    def pick(self, rng: np.random.Generator, labels: Sequence[int] = ()) -> tuple[Ink, int]:
        """A random image and its label, which is one of `labels` if there are such images."""
        among = [label for label in labels if label in self.by_label] or [*self.by_label]
        label = among[int(rng.integers(len(among)))]
        return rng.choice(self.by_label[label]), label


def draw_letter(rng: np.random.Generator, sources: Sources) -> Ink:
    """A letter in one of the FONTS, slanted, stretched, thicker or thinner; one in eight is another sign."""
    text = str(rng.choice(list(SIGNS if rng.random() < 0.125 else LETTERS)))
    return draw_glyph(text, str(rng.choice(FONTS)), rng.uniform(-1.0, 1.8), random_warp(rng))


def draw_scribble(rng: np.random.Generator, sources: Sources) -> Ink:
    """Two to four strokes through random points, straight or round. One alone may be a 1 or a 7, or, closed, a 0."""
    strokes: list[Points] = []
    for _ in range(rng.integers(2, 5)):
        points = rng.random((rng.integers(2, 9), 2)) + rng.normal(0, 0.2, 2)
        strokes.append(smooth(points, closed=bool(rng.random() < 0.2)) if rng.random() < 0.6 else points)
    return draw_strokes(strokes, rng.uniform(1.8, 4.5))


def draw_shape(rng: np.random.Generator, sources: Sources) -> Ink:
    """A polygon, a zigzag, a spiral, a cross, an arrow, a wave, a lying line."""
    kind = rng.integers(7)
    turn = rng.uniform(0, 2 * np.pi)
    if kind == 0:
        count = int(rng.integers(3, 5))  # with more corners it would look like a 0
        angles = turn + np.arange(count + 1) * 2 * np.pi / count
        strokes = [np.column_stack([np.cos(angles), np.sin(angles)])]
    elif kind == 1:
        count = int(rng.integers(5, 9))
        strokes = [np.column_stack([np.arange(count) / count * rng.uniform(0.7, 2), np.arange(count) % 2])]
    elif kind == 2:
        angles = np.linspace(0, rng.uniform(2.5, 5) * 2 * np.pi, 80)
        strokes = [np.column_stack([np.cos(angles + turn), np.sin(angles + turn)]) * angles[:, None]]
    elif kind == 3:
        strokes = [np.array([(0, 0.5), (1, 0.5 + rng.normal(0, 0.1))]), np.array([(0.5, 0), (0.5, 1)])]
        strokes += [np.array([(0.1, 0.1), (0.9, 0.9)])] * int(rng.integers(2))
    elif kind == 4:
        strokes = [np.array([(0, 0), (1, 0)]), np.array([(0.7, -0.3), (1, 0), (0.7, 0.3)])]
    elif kind == 5:
        x = np.linspace(0, 1, 60)
        strokes = [np.column_stack([x, rng.uniform(0.1, 0.3) * np.sin(x * rng.uniform(10, 25))])]
    else:
        strokes = [np.array([(0, 0), (1, rng.normal(0, 0.08))])]
        strokes += [np.array([(0, 0.35), (1, 0.35)])] * int(rng.integers(2))
    rotation = turn if kind in (3, 4) else rng.normal(0, 0.2)
    matrix = np.array([[np.cos(rotation), -np.sin(rotation)], [np.sin(rotation), np.cos(rotation)]]) @ random_warp(rng)
    uneven = [stroke + rng.normal(0, 0.02, stroke.shape) for stroke in strokes]
    return draw_strokes([stroke @ matrix.T for stroke in uneven], rng.uniform(1.8, 4.5))


def draw_blob(rng: np.random.Generator, sources: Sources) -> Ink:
    """A filled shape with an uneven surface, which may have holes: what is left of a thing that is no writing."""
    coarse = cv2.resize(rng.standard_normal((6, 6)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.standard_normal((14, 14)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    power = rng.choice([2, 4, 8])
    outline = 0.75 - np.abs(x / rng.uniform(0.5, 1.1)) ** power - np.abs(y / rng.uniform(0.5, 1.1)) ** power
    inside = outline + rng.uniform(0, 0.5) * coarse > 0
    surface = 170 + rng.uniform(0, 60) * coarse + rng.uniform(0, 60) * fine
    surface = np.where(surface > rng.uniform(0, 150), surface, 0)
    image = np.where(inside, np.clip(surface, 0, 255), 0).astype(np.uint8)
    if rng.random() < 0.5:
        image = np.where(image > 0, 255, 0).astype(np.uint8)
    return normalise(image) if rng.random() < 0.6 and image.max() > 64 else image


def draw_silhouette(rng: np.random.Generator, sources: Sources) -> Ink:
    """A thing that is wider than a stroke, or a part of one: uneven bars, alone, as legs or as sleeves."""
    bars = int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
    canvas = np.zeros((90, 120), np.uint8)
    for k in range(bars):
        tilt, bend = rng.normal(0, 0.15), rng.normal(0, 0.12)
        width = rng.uniform(19, 36) if bars == 1 else rng.uniform(8, 24)  # of 80: a narrow bar alone is a 1
        y = np.arange(5, 85)
        middle = 60 + (k - (bars - 1) / 2) * rng.uniform(18, 34) + tilt * (y - 45) + bend * (y - 45) ** 2 / 45
        sides = [width / 2 * (1 + walk(rng, len(y), 0.35) + rng.normal(0, 0.25) * (y - 45) / 45) for _ in range(2)]
        outline = np.concatenate([np.stack([middle - sides[0], y], 1), np.stack([middle + sides[1], y], 1)[::-1]])
        cv2.fillPoly(canvas, [outline.round().astype(np.int32)], 255)
    if bars > 1 and rng.random() < 0.6:  # what joins them
        top = int(rng.integers(5, 50))
        cv2.rectangle(canvas, (35, top), (85, top + int(rng.integers(6, 35))), 255, -1)
    if rng.random() < 0.3:  # holes and fringes
        canvas[cv2.resize(rng.standard_normal((18, 24)), (120, 90)) > rng.uniform(0.8, 1.6)] = 0
    image = normalise(canvas)
    if rng.random() < 0.3:
        image = (image * rng.uniform(0.5, 1, (4, 4)).repeat(7, 0).repeat(7, 1)).astype(np.uint8)
    return image


def walk(rng: np.random.Generator, count: int, most: float) -> NDArray[np.float64]:
    """A smooth random line through `count` points, between about -most and most."""
    points = rng.uniform(-most, most, int(rng.integers(3, 12)))
    return np.interp(np.linspace(0, len(points) - 1, count), np.arange(len(points)), points)


def join_halves(rng: np.random.Generator, sources: Sources) -> Ink:
    """The upper or left half of one image and the other half of another of a different class."""
    first, label = sources.pick(rng)
    second, _ = sources.pick(rng, [other for other in sources.by_label if other != label])
    joined, middle = first.copy(), SIDE // 2
    if rng.random() < 0.5:
        joined[middle:] = second[middle:]
    else:
        joined[:, middle:] = second[:, middle:]
    return joined


def turn_digit(rng: np.random.Generator, sources: Sources) -> Ink:
    """A digit that is none when it lies on its side or, but for 2 and 5, upside down; or one that is mirrored."""
    digit, label = sources.pick(rng, (2, 3, 4, 5, 7))
    turns = int(rng.choice([1, 3] if label in (2, 5) else [1, 2, 3]))
    if label in (3, 4, 7) and rng.random() < 0.25:
        return np.ascontiguousarray(digit[:, ::-1])
    return np.ascontiguousarray(np.rot90(digit, turns))


def join_digits(rng: np.random.Generator, sources: Sources) -> Ink:
    """Two or three digits side by side, apart or touching."""
    row = crop_sides(sources.pick(rng)[0])
    for _ in range(rng.choice([1, 2], p=[0.85, 0.15])):
        following = crop_sides(sources.pick(rng)[0])
        row = join_sideways(row, np.roll(following, int(rng.integers(-3, 4)), 0), int(rng.integers(-4, 6)))
    if rng.random() < 0.6:  # the strokes of a number are as wide as those of a digit once it is redrawn
        row = np.asarray(cv2.dilate(row, np.ones((3, 3), np.uint8)), np.uint8)
    return normalise(row)


def crop_sides(digit: Ink) -> Ink:
    """A digit, (28, 28), without the empty columns at its sides."""
    left, _, width, _ = cv2.boundingRect(digit)
    return digit[:, left : left + width]


def join_sideways(left: Ink, right: Ink, overlap: int) -> Ink:
    """Two images of the same height side by side, with so many columns in common; below 0: apart."""
    overlap = min(overlap, left.shape[1] - 1, right.shape[1] - 1)
    joined = np.zeros((left.shape[0], left.shape[1] + right.shape[1] - overlap), np.uint8)
    joined[:, : left.shape[1]] = left
    joined[:, -right.shape[1] :] = np.maximum(joined[:, -right.shape[1] :], right)
    return joined


# How often each kind comes, relative to the others, and what draws one.
KINDS: dict[str, tuple[float, Callable[[np.random.Generator, Sources], Ink]]] = {
    "letters": (5, draw_letter),
    "scribbles": (2, draw_scribble),
    "shapes": (1.5, draw_shape),
    "blobs": (1.5, draw_blob),
    "silhouettes": (3, draw_silhouette),
    "halves": (0.5, join_halves),
    "turned digits": (1.5, turn_digit),
    "joined digits": (3.5, join_digits),
}
# Where the classes are no digits, letters and signs may be among them.
KINDS_FOR_OTHERS = ("scribbles", "blobs", "silhouettes", "halves")


def choose_kinds(class_names: Sequence[str]) -> tuple[str, ...]:
    """The KINDS that are of no class, for a dataset with these classes."""
    return tuple(KINDS) if tuple(class_names) == DIGITS else KINDS_FOR_OTHERS


def draw_outliers(count: int, kinds: tuple[str, ...], examples: Examples, seed: int | tuple[int, ...]) -> Tensor:
    """Draw images of no class, uint8 (count, 1, 28, 28), of KINDS, some made of examples; equal seeds, equal images."""
    rng, sources = np.random.default_rng(seed), Sources(examples)
    shares, draw = zip(*(KINDS[kind] for kind in kinds), strict=True)
    chosen = rng.choice(len(kinds), count, p=np.array(shares) / sum(shares))
    return torch.from_numpy(np.stack([draw[kind](rng, sources) for kind in chosen]))[:, None]
