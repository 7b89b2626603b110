"""The pictures, in one style: readable in print, by the colour-blind, and small."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

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
}
plt.style.use(STYLE)


def save(figure: Figure, path: Path) -> None:
    """Write a picture whole, without the date that would make equal pictures differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".new.{path.name}")
    figure.savefig(
        beside, bbox_inches="tight", metadata={"Software": None} if path.suffix == ".png" else {"Date": None}
    )
    plt.close(figure)
    beside.replace(path)


def mistakes(path: Path, images: np.ndarray, titles: list[str], heading: str) -> None:
    """A sheet of images with a line of text above each.

    Args:
        path: of the PNG.
        images: uint8 (N, 28, 28), N of 1 or more.
        titles: N lines.
        heading: above the sheet.
    """
    columns = min(5, len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.75 * columns, 1.95 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        axis.set_title(title, fontsize=8, loc="center")
    figure.suptitle(heading, x=0.02, ha="left", fontsize=11)
    figure.tight_layout()
    save(figure, path)


def confusion(path: Path, actual: np.ndarray, predicted: np.ndarray, class_names: list[str]) -> None:
    """The confusion matrix; the diagonal is left uncoloured, so that the mistakes show."""
    count = len(class_names)
    matrix = np.zeros((count, count), dtype=int)
    np.add.at(matrix, (actual, predicted), 1)
    wrong = matrix * (1 - np.eye(count, dtype=int))
    size = max(5.0, 0.5 * count + 1)
    figure, axis = plt.subplots(figsize=(size, size))
    axis.imshow(wrong, cmap="Blues", vmax=max(1, wrong.max()) * 1.6)
    for row, column in zip(*matrix.nonzero(), strict=True):
        axis.text(column, row, matrix[row, column], ha="center", va="center", fontsize=8, color=INK)
    axis.set_xticks(range(count), class_names, rotation=45 if max(map(len, class_names)) > 2 else 0)
    axis.set_yticks(range(count), class_names)
    axis.grid(False)
    axis.set(xlabel="predicted", ylabel="actual", title=f"{wrong.sum()} mistakes in {matrix.sum():,} test images")
    save(figure, path)


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
