"""Read the user's own images from a folder with one sub-folder of pictures per class."""

import io
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from mnist_pipeline.data.dataset import DataError
from mnist_pipeline.folders import is_note, normalise_name, visible
from mnist_pipeline.reading import FORMATS, Form, NotAnImage, NothingToRead, decode, read_image
from mnist_pipeline.sources.forms import MOST_LOOKED_AT, Look, Wanted, choose_form, look_at
from mnist_pipeline.sources.own_classes import OwnData, Part, check_classes, check_counts, combine

MOST_LISTED = 20  # damaged files that a message names

log = logging.getLogger(__name__)


class Pictures(NamedTuple):
    """The pictures of the classes' folders that can be read."""

    images: np.ndarray  # uint8 (n, C, S, S)
    labels: list[int]
    names: list[str]
    sizes: list[tuple[int, int]]  # width and height
    damaged: list[str]  # a line for each file that cannot be read, with the reason


def read_class_folders(source: Path, wanted: Wanted, skip_damaged: bool) -> OwnData:
    """Read the images of a folder with one sub-folder per class, or with train/ and test/ that hold such."""
    parts = find_part_folders(source)
    folders = {folder: class_folders(folder) for folder in parts}
    class_names, *others = (tuple(classes) for classes in folders.values())
    if others and class_names != others[0]:
        different = sorted({*class_names} ^ {*others[0]})
        raise DataError(f"{source}: train and test differ in their classes (A and a are two): {different}")
    for folder, least in parts.items():
        check_counts(folder, class_names, [len(files) for files in folders[folder].values()], least)
    form = choose_form(look_at_some(next(iter(folders.values()))), class_names, wanted)
    read = {folder: read_pictures(source, folder, folders[folder], form) for folder in parts}
    check_damaged(source, [line for pictures in read.values() for line in pictures.damaged], skip_damaged)
    for folder, least in parts.items():
        counts = np.bincount(np.array(read[folder].labels, int), minlength=len(class_names))
        check_counts(folder, class_names, counts.tolist(), least)
    sizes = [size for pictures in read.values() for size in pictures.sizes]
    extremes = (min(sizes, key=math.prod), max(sizes, key=math.prod))
    whole = [Part(part.images, np.array(part.labels), part.names) for part in read.values()]
    return combine(class_names, form, extremes, whole)


def find_part_folders(source: Path) -> dict[Path, int]:
    """The folders that hold the classes' sub-folders, train/ and test/ or `source` itself, and the images that each
    class needs there."""
    names = {path.name for path in visible(source) if path.is_dir() or not is_note(path)}
    if not {"train", "test"} <= names:
        return {source: 3}  # to train, to validate and to test
    if extra := names - {"train", "test"}:
        raise DataError(f"{source} has {min(extra)!r} next to train and test; it would not be used")
    return {source / "train": 2, source / "test": 1}


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """List the files of each sub-folder, by its name; raises DataError unless there are 2 to 256 sub-folders."""
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; it must be a folder with one sub-folder of images per class")
    content, classes = visible(folder), dict[str, list[Path]]()
    for path in filter(Path.is_dir, content):
        classes.setdefault(normalise_name(path.name), []).extend(file for file in visible(path) if not is_note(file))
    check_classes(folder, [*classes])
    if unused := [path.name for path in content if not path.is_dir()]:
        log.warning("%s: %d files next to the class folders are not used, %r first.", folder, len(unused), unused[0])
    return classes


def look_at_some(classes: Mapping[str, Sequence[Path]]) -> list[Look]:
    """Measure at most MOST_LOOKED_AT pictures, evenly chosen among all; files that cannot be read are left out."""
    paths = [path for files in classes.values() for path in files]
    looks = []
    for path in tqdm(paths[:: -(-len(paths) // MOST_LOOKED_AT)], desc="first look", disable=None):
        try:
            looks.append(look_at(*decode(path.read_bytes(), limited=False)))
        except (OSError, NotAnImage):
            continue  # read_pictures reports it
    return looks or [Look(0, 0, 0)]


def read_pictures(source: Path, folder: Path, classes: Mapping[str, Sequence[Path]], form: Form) -> Pictures:
    """Read the files of each class, with a progress bar on terminals."""
    files = [(path, label) for label, paths in enumerate(classes.values()) for path in paths]
    images = np.empty((len(files), *form.shape), np.uint8)
    pictures = Pictures(images, [], [], [], [])
    for path, label in tqdm(files, desc=folder.name, disable=None):
        try:
            content = path.read_bytes()
            images[len(pictures.labels)] = read_image(content, form, limited=False)
            pictures.labels.append(label)
            pictures.names.append(str(path.relative_to(source)))
            pictures.sizes.append(size_of(content))
        except OSError as error:
            pictures.damaged.append(f"{path}: {error.strerror}")
        except (NotAnImage, NothingToRead) as error:
            pictures.damaged.append(f"{path}: {error}")
    return pictures._replace(images=images[: len(pictures.labels)])


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
