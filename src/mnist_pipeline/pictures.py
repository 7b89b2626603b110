"""The pictures, in one style: readable in print, by the colour-blind, and small."""

import unicodedata
from collections.abc import Sequence
from functools import cache
from math import ceil, sqrt
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

INK, ACCENT, SOFT = "#222222", "#0072B2", "#D55E00"  # blue and vermillion: Okabe & Ito's palette
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.dpi": 110,
    "svg.hashsalt": "mnist-pipeline",  # same picture, same bytes
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: same picture on every machine
    "text.parse_math": False,  # a class may be called $1
}
plt.style.use(STYLE)

LONGEST_LABEL = 14  # characters
MOST_CLASSES = 30  # rows of a confusion matrix: 16 inches


def save(figure: Figure, path: Path) -> None:
    """Write a picture whole, without the date that would make equal pictures differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".new.{path.name}")
    figure.savefig(
        beside, bbox_inches="tight", metadata={"Software": None} if path.suffix == ".png" else {"Date": None}
    )
    plt.close(figure)
    beside.replace(path)


def class_labels(class_names: Sequence[str]) -> list[str]:
    """How classes are called in a picture: by name, or by number (#0, #1, …) where the name cannot be drawn.

    A name cannot be drawn where the font has no glyph for one of its characters, or where its script is written from
    right to left or joined up, which matplotlib does not do. Long names are shortened; names that would then look
    alike become numbers too.
    """
    short = [
        (name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…") if is_drawable(name) else ""
        for name in class_names
    ]
    return [label if label and short.count(label) == 1 else f"#{k}" for k, label in enumerate(short)]


def count_of(count: int, what: str) -> str:
    """A number of things in words: 1 mistake, 2 mistakes."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def is_drawable(text: str) -> bool:
    """Whether matplotlib can draw a text legibly: one glyph a character, from left to right."""
    return bool(text.strip()) and all(
        is_in_font(character)
        and unicodedata.bidirectional(character) not in ("R", "AL", "AN")
        and unicodedata.category(character)[0] not in "CM"  # control characters, and marks that join others
        for character in unicodedata.normalize("NFC", text)
    )


@cache
def is_in_font(character: str) -> bool:
    """Whether the pictures' font has a glyph for a character."""
    return bool(get_font(findfont("DejaVu Sans")).get_char_index(ord(character)))


def mistakes(path: Path, images: np.ndarray, titles: list[str], heading: str) -> None:
    """A sheet of images with two lines of text above each.

    Args:
        path: of the PNG.
        images: uint8 (N, 28, 28), N of 1 or more.
        titles: N texts.
        heading: above the sheet.
    """
    columns = min(max(5, ceil(sqrt(len(images)))), len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.75 * columns, 2.1 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        axis.set_title(title, fontsize=8, loc="center")
    figure.suptitle(heading, x=0.02, ha="left", fontsize=11)
    figure.tight_layout()
    save(figure, path)


def confusion(path: Path, actual: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]) -> None:
    """The confusion matrix; the diagonal is left uncoloured, so that the mistakes show.

    Of more than MOST_CLASSES classes, those with the most mistakes are shown, and all others as one.

    Args:
        path: of the PNG.
        actual, predicted: integers (N,), indices of classes.
        class_names: by index.
    """
    count = len(class_names)
    matrix = np.zeros((count, count), dtype=int)
    np.add.at(matrix, (actual, predicted), 1)
    labels, title = (
        class_labels(class_names),
        f"{count_of(int((actual != predicted).sum()), 'mistake')} in {len(actual):,} test images",
    )
    if count > MOST_CLASSES:
        shown = most_confused(matrix, MOST_CLASSES - 1)
        matrix, labels = merge_others(matrix, shown), [*(labels[k] for k in shown), "all others"]
        title += f"\nThe {len(shown)} of {count} classes with the most mistakes"
    if any(label == f"#{k}" for k, label in enumerate(class_labels(class_names))):
        title += "\n#k is class k, counted from 0, of class_names in model_info.json"
    count = len(labels)
    wrong = matrix * (1 - np.eye(count, dtype=int))
    size = max(5.0, 0.5 * count + 1)
    figure, axis = plt.subplots(figsize=(size, size))
    axis.imshow(wrong, cmap="Blues", vmax=max(1, wrong.max()) * 1.6)
    for row, column in zip(*matrix.nonzero(), strict=True):
        axis.text(column, row, matrix[row, column], ha="center", va="center", fontsize=8, color=INK)
    axis.set_xticks(range(count), labels)
    if max(map(len, labels)) > 2:
        plt.setp(axis.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(count), labels)
    axis.grid(False)
    axis.set(xlabel="predicted", ylabel="actual", title=title)
    save(figure, path)


def most_confused(matrix: np.ndarray, count: int) -> list[int]:
    """The indices, in ascending order, of the classes with the most mistakes in a confusion matrix (classes, classes).

    A mistake counts for both its classes, the actual and the predicted one.
    """
    wrong = matrix * (1 - np.eye(len(matrix), dtype=int))
    mistakes = wrong.sum(0) + wrong.sum(1)
    return sorted(np.argsort(-mistakes, kind="stable")[:count].tolist())


def merge_others(matrix: np.ndarray, shown: Sequence[int]) -> np.ndarray:
    """A confusion matrix of some classes, and of all others as the last one: (len(shown) + 1, len(shown) + 1)."""
    place = np.full(len(matrix), len(shown))
    place[list(shown)] = range(len(shown))
    merged = np.zeros((len(shown) + 1, len(shown) + 1), dtype=int)
    np.add.at(merged, (place[:, None], place[None, :]), matrix)
    return merged


def reliability(path: Path, before: list[dict[str, float]], after: list[dict[str, float]]) -> None:
    """Confidence against accuracy, before and after the temperature; a dot's size is its share of the images."""
    figure, axis = plt.subplots(figsize=(4.6, 4.4))
    axis.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":", label="perfect")
    for rows, colour, marker, label in ((before, SOFT, "s", "before"), (after, ACCENT, "o", "after temperature")):
        x, y = [row["confidence"] for row in rows], [row["accuracy"] for row in rows]
        total = sum(row["images"] for row in rows)
        axis.plot(x, y, color=colour, linewidth=1, alpha=0.6)
        sizes = [20 + 200 * row["images"] / total for row in rows]
        axis.scatter(x, y, s=sizes, color=colour, marker=marker, label=label)
    axis.set(xlim=(0, 1.02), ylim=(0, 1.05), xlabel="confidence", ylabel="accuracy", title="Reliability on test images")
    axis.legend(loc="upper left", frameon=False)
    save(figure, path)
