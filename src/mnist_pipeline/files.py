"""Write files and folders so that a reader finds them complete or not at all."""

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write a file or a folder to; at the end of the block it takes the place of `path`.

    Whoever reads `path` finds the old content or the new one, never a part. Where the block raises, `path` stays as it
    was. Missing parent folders are made. Only one process at a time may replace the same path.

    A file replaces a file in one rename. Where either is a folder, it takes two: between them, for microseconds, `path`
    does not exist. What a process leaves that is killed at that moment, the next `replacing` of the path puts back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, replaced = (path.with_name(f".{path.name}.{state}") for state in ("unfinished", "replaced"))
    restore(path, replaced, unfinished)
    try:
        yield unfinished
        flush(unfinished)
        if os.path.lexists(path) and (path.is_dir() or unfinished.is_dir()):
            path.rename(replaced)
        unfinished.replace(path)
        fsync(path.parent)
    finally:
        restore(path, replaced, unfinished)


@contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder. At the end its files replace those of the same names in `folder`; on errors none."""
    unfinished = folder / ".unfinished"
    folder.mkdir(parents=True, exist_ok=True)
    remove(unfinished)
    try:
        unfinished.mkdir()
        yield unfinished
        flush(unfinished)
        for file in sorted(unfinished.iterdir()):
            file.replace(folder / file.name)
        fsync(folder)
    finally:
        remove(unfinished)


def restore(path: Path, replaced: Path, unfinished: Path) -> None:
    """Put back an old file or folder whose new one did not arrive, and remove what else a replacement has left."""
    remove(unfinished)
    if os.path.lexists(replaced):
        if os.path.lexists(path):
            replaced.rename(unfinished)
            remove(unfinished)
        else:
            replaced.rename(path)


def flush(path: Path) -> None:
    """Write a file, or a folder with all that it holds, through to the disk before it is renamed."""
    for each in (path, *path.rglob("*")):
        if not each.is_symlink():
            fsync(each)


def fsync(path: Path) -> None:
    """Write the content of one file, or the names in one folder, through to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that it holds, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, with a newline at its end."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of the same columns, with a header line; at least one row."""
    rows = list(rows)
    with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
