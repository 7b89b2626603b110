"""The pictures of an evaluation: mistakes, the confusion matrix, and how far confidence can be trusted."""

from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from sklearn.metrics import confusion_matrix

from mnist_pipeline.figures import ACCENT, INK, SOFT, save, shorten

MOST_CLASSES = 30  # rows of a confusion matrix: 16 inches


def draw_mistakes(path: Path, images: np.ndarray, titles: list[str], heading: str) -> None:
    """Draw a sheet of images, uint8 (N, C, S, S), with two lines of text above each."""
    columns = max(5, ceil(sqrt(len(images))))
    rows = max(1, ceil(len(images) / columns))
    figure, axes = plt.subplots(rows, columns, figsize=(1.75 * columns, 2.1 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image.transpose(1, 2, 0), cmap="gray_r", vmin=0, vmax=255)  # a colour map is for grey images alone
        axis.set_title(title, fontsize=8, loc="center")
    figure.suptitle(heading, x=0.02, ha="left", fontsize=11)
    figure.tight_layout()
    save(figure, path)


def draw_confusion(path: Path, actual: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]) -> None:
    """Draw the confusion matrix, its diagonal uncoloured; of many classes those with the most mistakes."""
    matrix = confusion_matrix(actual, predicted, labels=range(len(class_names)))
    mistakes = matrix - np.diag(matrix.diagonal())
    title = f"Mistakes: {mistakes.sum()} in {len(actual):,} test images"
    if len(class_names) > MOST_CLASSES:
        title += f"\nThe {MOST_CLASSES} of {len(class_names)} classes with the most mistakes"
    order = np.argsort(-(mistakes.sum(0) + mistakes.sum(1)), kind="stable")
    shown = np.sort(order[:MOST_CLASSES])
    matrix, mistakes = matrix[np.ix_(shown, shown)], mistakes[np.ix_(shown, shown)]
    labels = [shorten(class_names[k]) for k in shown]
    size = max(5.0, 0.5 * len(labels) + 1)
    figure, axis = plt.subplots(figsize=(size, size))
    axis.imshow(mistakes, cmap="Blues", vmin=0, vmax=1.6 * max(1, mistakes.max()))
    for row, column in np.argwhere(matrix):
        axis.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=8, color=INK)
    axis.set_xticks(range(len(labels)), labels, rotation="vertical" if max(map(len, labels)) > 2 else "horizontal")
    axis.set_yticks(range(len(labels)), labels)
    axis.grid(False)
    axis.set(xlabel="predicted", ylabel="actual", title=title)
    save(figure, path)


def draw_reliability(path: Path, before: list[dict[str, float]], after: list[dict[str, float]]) -> None:
    """Draw confidence against accuracy, before and after the temperature; a dot's size is its share of the images."""
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
