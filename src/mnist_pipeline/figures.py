"""The style of all pictures: readable in print, by the colour-blind, and small."""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
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
    """How classes are called in a picture: by name, or by number (#0, #1, …) where the name cannot be drawn.

    A name cannot be drawn where the font has no glyph for one of its characters, or where its script is written from
    right to left or joined up, which matplotlib does not do. Long names are shortened; names that would then
    be equal become numbers too, and so do names that look like such a number.
    """
    short = [
        "" if not is_drawable(name) else name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"
        for name in class_names
    ]
    short = ["" if re.fullmatch(r"#\d+", label) else label for label in short]
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
