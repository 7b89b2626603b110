"""Which files of a user's folder count, in which order, and what a class is called: the same on every machine."""

import re
import unicodedata
from pathlib import Path
from typing import Any

# What file managers, zip programs and network drives leave. Hidden files, such as ._x of macOS, are no pictures either.
JUNK = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("icon\r", "__macosx", "@eadir", "#recycle", "lost+found"),
)
NOTES = (".csv", ".json", ".md", ".txt", ".xml", ".yaml", ".yml")  # texts that may lie among pictures


def is_visible(name: str) -> bool:
    """Tell whether a file or folder of this name is neither hidden nor junk."""
    return not name.startswith(".") and name.casefold() not in JUNK


def is_note(path: Path) -> bool:
    """Tell whether a file is a text that may lie among pictures."""
    return path.suffix.lower() in NOTES


def visible(folder: Path) -> list[Path]:
    """List the content of a folder in natural order, without hidden files and junk; raises OSError."""
    paths = [path for path in folder.iterdir() if is_visible(path.name)]
    return sorted(paths, key=lambda path: natural_order(path.name))


def visible_files(folder: Path) -> list[Path]:
    """List the files of a folder and its sub-folders in natural order, without what is hidden or junk."""
    inside = {path: path.relative_to(folder).parts for path in folder.rglob("*") if path.is_file()}
    kept = [path for path, parts in inside.items() if all(map(is_visible, parts))]
    return sorted(kept, key=lambda path: [natural_order(part) for part in inside[path]])


def natural_order(name: str) -> tuple[list[Any], str]:
    """A sorting key that puts 2 before 10, however é is stored; different names have different keys."""
    pieces = re.split(r"(\d+)", unicodedata.normalize("NFC", name))  # text and digits in turn
    return [int(piece) if piece.isdecimal() else piece for piece in pieces], name


def normalise_name(name: str) -> str:
    """Bring the name of a class into one form: é as one character (macOS writes two), and white space as one blank."""
    return " ".join(unicodedata.normalize("NFC", name).split())
