"""Read the user's own images from a folder with one sub-folder of pictures per class."""

import io
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from mnist_pipeline.data.dataset import DataError
from mnist_pipeline.folders import is_note, normalise_name, visible
from mnist_pipeline.reading import FORMATS, Form, NotAnImage, NothingToRead, decode, read_image
from mnist_pipeline.sources.forms import Look, Wanted, choose_form, choose_step, look_at
from mnist_pipeline.sources.own_data import OwnData, Part, check_classes, check_counts, split

MOST_LISTED = 20  # damaged files that a message names

log = logging.getLogger(__name__)


def read_class_folders(source: Path, wanted: Wanted, skip_damaged: bool) -> OwnData:
    """Read the images of a folder with one sub-folder per class, or with train/ and test/ that hold such."""
    names = {path.name for path in visible(source) if path.is_dir() or not is_note(path)}
    has_test = {"train", "test"} <= names
    if has_test and len(names) > 2:
        raise DataError(f"{source} has {min(names - {'train', 'test'})!r} next to train and test")
    folders = [source / "train", source / "test"] if has_test else [source]
    classes = [list_classes(folder) for folder in folders]
    class_names = tuple(classes[0])
    if class_names != tuple(classes[-1]):
        different = sorted(set(classes[0]) ^ set(classes[-1]))
        raise DataError(f"{source}: train and test differ in their classes (A and a are two): {different}")
    form = choose_form(look_at_some(classes[0]), class_names, wanted)
    damaged: list[str] = []
    sizes: list[tuple[int, int]] = []
    parts = [read_pictures(source, files, form, sizes, damaged) for files in classes]
    report_damaged(source, damaged, skip_damaged)
    # Images to train and to validate with, and one to test with.
    check_counts(folders[0], class_names, parts[0].labels, least=2 if has_test else 3)
    check_counts(folders[-1], class_names, parts[-1].labels, least=1)
    train, test = parts if has_test else split(parts[0], len(class_names))
    extremes = dict.fromkeys((min(sizes, key=math.prod), max(sizes, key=math.prod)))
    size = " to ".join(f"{width}x{height}" for width, height in extremes)
    return OwnData(class_names, form, size, train, test)


def list_classes(folder: Path) -> dict[str, list[Path]]:
    """List the files of each sub-folder, by the class that it is named after; raises DataError."""
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; it must be a folder with one sub-folder of images per class")
    classes = dict[str, list[Path]]()
    for path in filter(Path.is_dir, visible(folder)):
        files = [file for file in visible(path) if not is_note(file)]
        classes.setdefault(normalise_name(path.name), []).extend(files)
    check_classes(folder, [*classes])
    return classes


def look_at_some(classes: Mapping[str, Sequence[Path]]) -> list[Look]:
    """Measure some of the pictures; files that cannot be read are left out, read_pictures reports them."""
    looks = []
    paths = [path for files in classes.values() for path in files]
    for path in tqdm(paths[:: choose_step(len(paths))], desc="first look", disable=None):
        try:
            looks.append(look_at(*decode(path.read_bytes(), limited=False)))
        except (OSError, NotAnImage):
            continue
    return looks or [Look(0, 0, 0)]


def read_pictures(
    source: Path,
    classes: Mapping[str, Sequence[Path]],
    form: Form,
    sizes: list[tuple[int, int]],
    damaged: list[str],
) -> Part:
    """Read the files of each class, with a progress bar on terminals.

    Adds to `sizes` the width and height of each picture, and to `damaged` a line for each file that cannot be read.
    """
    files = [(path, label) for label, paths in enumerate(classes.values()) for path in paths]
    images, labels, names = [], [], []
    for path, label in tqdm(files, desc="pictures", disable=None):
        try:
            content = path.read_bytes()
            images.append(read_image(content, form, limited=False))
        except OSError as error:
            damaged.append(f"{path}: {error.strerror}")
            continue
        except (NotAnImage, NothingToRead) as error:
            damaged.append(f"{path}: {error}")
            continue
        labels.append(label)
        names.append(str(path.relative_to(source)))
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            sizes.append(picture.size)
    return Part(np.array(images, np.uint8).reshape(-1, *form.shape), np.array(labels, np.int64), np.array(names))


def report_damaged(source: Path, damaged: Sequence[str], skip_damaged: bool) -> None:
    """Report the files that cannot be read, if any: as a DataError, or with skip_damaged as a warning."""
    if not damaged:
        return
    files = "1 file" if len(damaged) == 1 else f"{len(damaged)} files"
    lines = "\n  ".join(damaged[:MOST_LISTED])
    if len(damaged) > MOST_LISTED:
        lines += f"\n  and {len(damaged) - MOST_LISTED} more"
    if not skip_damaged:
        raise DataError(
            f"{source}: {files} cannot be read; repair or remove what is listed here, or set data.skip_damaged to true "
            f"to leave it out:\n  {lines}"
        )
    log.warning("%s: %s cannot be read and will be left out (data.skip_damaged):\n  %s", source, files, lines)
