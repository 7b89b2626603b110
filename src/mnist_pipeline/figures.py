"""The style of all pictures: readable in print, by the colour-blind, and small."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from mnist_pipeline import files

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


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, without the software's version, which would make equal pictures differ."""
    with files.replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def shorten(name: str) -> str:
    """The name of a class, at most 14 characters long."""
    return name if len(name) <= 14 else name[:13] + "…"
