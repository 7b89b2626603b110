"""The style of all pictures: readable in print, by the colour-blind, and small."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

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

LONGEST_LABEL = 14  # characters


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, without the software's version, which would make equal pictures differ."""
    with files.replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def class_labels(class_names: Sequence[str]) -> list[str]:
    """The names of classes, shortened, or #0, #1, … where a name cannot be drawn or two would be equal."""
    short = [name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…" for name in class_names]
    return [label if short.count(label) == 1 and is_drawable(label) else f"#{k}" for k, label in enumerate(short)]


def is_drawable(text: str) -> bool:
    """Whether matplotlib can draw a text legibly: one glyph a character, from left to right; and it is no number #k."""
    glyphs = get_font(findfont("DejaVu Sans")).get_charmap()
    return not (text.isspace() or text == "" or text.startswith("#")) and all(
        ord(character) in glyphs
        and unicodedata.bidirectional(character) not in ("R", "AL", "AN")
        and unicodedata.category(character)[0] not in "CM"  # control characters, and marks that join others
        for character in text
    )


def count_of(count: int, what: str) -> str:
    """A number of things in words: 1 mistake, 2 mistakes."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
