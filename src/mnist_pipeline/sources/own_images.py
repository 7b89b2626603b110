"""Read the user's own images from a folder with one sub-folder of pictures per class."""

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from mnist_pipeline.data.dataset import Arrays, DataError
from mnist_pipeline.folders import is_note, normalise_name, visible
from mnist_pipeline.reading import FORMATS, READERS, NotAnImage, NothingToRead
from mnist_pipeline.sources.own_classes import OwnData, check_counts, check_names, choose_reader, split

MOST_LISTED = 20  # damaged files that a message names

log = logging.getLogger(__name__)


class Pictures(NamedTuple):
    """The pictures of the classes' folders.

    Attributes:
        images, labels: of those that can be read.
        sizes: width and height of each.
        damaged: a line for each file that cannot be read, with the reason.
    """

    images: list[UInt8[np.ndarray, "28 28"]]
    labels: list[int]
    sizes: list[tuple[int, int]]
    damaged: list[str]


def read_class_folders(source: Path, reader: str | None, skip_damaged: bool) -> OwnData:
    """Read the images of a folder with one sub-folder per class, or with train/ and test/ that hold such sub-folders.

    The server will read the pictures that it is sent with the same reader.
    """
    names = {path.name for path in visible(source) if path.is_dir() or not is_note(path)}
    if {"train", "test"} <= names:
        if extra := names - {"train", "test"}:
            raise DataError(f"{source} has {min(extra)!r} next to train and test; it would not be used")
        parts = {source / "train": 2, source / "test": 1}  # images that each class has at least
    else:
        parts = {source: 3}  # to train, to validate and to test
    folders = {folder: class_folders(folder) for folder in parts}
    class_names, *others = (tuple(classes) for classes in folders.values())
    if others and class_names != others[0]:
        different = sorted({*class_names} ^ {*others[0]})
        raise DataError(f"{source}: train and test differ in their classes (A and a are two): {different}")
    for folder, least in parts.items():
        check_counts(folder, class_names, [len(files) for files in folders[folder].values()], least)
    reader = reader or choose_reader(class_names)
    read = {folder: read_pictures(folder.name, [*folders[folder].values()], reader) for folder in parts}
    check_damaged(source, [line for pictures in read.values() for line in pictures.damaged], skip_damaged)
    for folder, least in parts.items():
        counts = np.bincount(np.array(read[folder].labels, int), minlength=len(class_names))
        check_counts(folder, class_names, counts.tolist(), least)
    sizes = [size for pictures in read.values() for size in pictures.sizes]
    (images, labels), *test = ((np.stack(found.images), np.array(found.labels)) for found in read.values())
    arrays = Arrays(images, labels, *test[0]) if test else split(images, labels, len(class_names))
    return OwnData(class_names, arrays, reader, (min(sizes, key=area), max(sizes, key=area)))


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """List the files of each sub-folder, by its name; raises DataError unless there are 2 to 256 sub-folders."""
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; it must be a folder with one sub-folder of images per class")
    content, classes = visible(folder), dict[str, list[Path]]()
    for path in filter(Path.is_dir, content):
        classes.setdefault(normalise_name(path.name), []).extend(file for file in visible(path) if not is_note(file))
    if not 2 <= len(classes) <= 256:
        raise DataError(f"{folder} has {len(classes)} sub-folders {[*classes][:3]}; it takes one a class, 2 to 256")
    check_names(folder, [*classes])
    if unused := [path.name for path in content if not path.is_dir()]:
        log.warning("%s: %d files next to the class folders are not used, %r first.", folder, len(unused), unused[0])
    return classes


def read_pictures(description: str, classes: Sequence[Sequence[Path]], reader: str) -> Pictures:
    """Read the files of each class.

    Args:
        description: of the progress bar, shown on terminals.
        classes: each one's files.
        reader: one of reading.READERS.
    """
    pictures = Pictures([], [], [], [])
    files = [(path, label) for label, paths in enumerate(classes) for path in paths]
    for path, label in tqdm(files, desc=description, disable=None):
        try:
            content = path.read_bytes()
            pictures.images.append(READERS[reader](content, limited=False))
            pictures.labels.append(label)
            pictures.sizes.append(size_of(content))
        except OSError as error:
            pictures.damaged.append(f"{path}: {error.strerror}")
        except (NotAnImage, NothingToRead) as error:
            pictures.damaged.append(f"{path}: {error}")
    return pictures


def check_damaged(source: Path, damaged: Sequence[str], skip_damaged: bool) -> None:
    """Report the files that cannot be read, if any: as a DataError, or with skip_damaged as a warning."""
    if not damaged:
        return
    more = [f"and {len(damaged) - MOST_LISTED} more"] if len(damaged) > MOST_LISTED else []
    files = "1 file" if len(damaged) == 1 else f"{len(damaged)} files"
    lines = "\n  ".join([*damaged[:MOST_LISTED], *more])
    if not skip_damaged:
        raise DataError(
            f"{source}: {files} cannot be read; repair or remove what is listed here, or set data.skip_damaged to true "
            f"to leave it out:\n  {lines}"
        )
    log.warning("%s: %s cannot be read and will be left out (data.skip_damaged):\n  %s", source, files, lines)


def size_of(image: bytes) -> tuple[int, int]:
    """Return width and height of an image that can be decoded."""
    with Image.open(io.BytesIO(image), formats=FORMATS) as picture:
        return picture.size


def area(size: tuple[int, int]) -> int:
    """Return the number of pixels of a picture of this width and height."""
    return size[0] * size[1]
