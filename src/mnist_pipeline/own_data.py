"""Read your own images: a folder of pictures per class, a CSV file, an .npz file or four IDX files."""

import csv
import gzip
import io
import logging
import re
import zipfile
import zlib
from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from PIL import Image
from tqdm import tqdm

from mnist_pipeline.data import DIGITS, FILES, DataError, hold_out, read_idx
from mnist_pipeline.preprocessing import FORMATS, READERS, SIDE, NotAnImage, NothingToRead

TEST_PART = 1 / 7  # of your own images, where none are set apart for testing; MNIST's proportion
JUNK = ("thumbs.db", "desktop.ini", "__macosx")  # what file managers and zip programs leave; hidden files are junk too
MOST_LISTED = 20  # damaged files that a message names

log = logging.getLogger(__name__)


class Arrays(NamedTuple):
    """What FILES hold."""

    train_images: UInt8[np.ndarray, "train 28 28"]
    train_labels: Integer[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test 28 28"]
    test_labels: Integer[np.ndarray, " test"]


class Labelled(NamedTuple):
    """Images with the name of each one's class."""

    images: UInt8[np.ndarray, "n 28 28"]
    labels: list[str]


class OwnData(NamedTuple):
    """What `read_own` found.

    Attributes:
        class_names: by index.
        arrays: the images, set apart for training and testing.
        reader: one of READERS.
        sizes: width and height of the smallest and of the largest picture.
    """

    class_names: tuple[str, ...]
    arrays: Arrays
    reader: str
    sizes: tuple[tuple[int, int], tuple[int, int]] = ((SIDE, SIDE), (SIDE, SIDE))

    def summary(self) -> str:
        """In words: classes, images, their sizes, how many are for training and testing, and how they are read."""
        names = ", ".join(self.class_names[:3]) + (", …" if len(self.class_names) > 3 else "")
        train, test = len(self.arrays.train_labels), len(self.arrays.test_labels)
        smallest, largest = (f"{width}x{height}" for width, height in self.sizes)
        size = smallest if smallest == largest else f"{smallest} to {largest}"
        return (
            f"{len(self.class_names)} classes ({names}), {train + test} images of {size} pixels: "
            f"{train} to train, {test} to test, read as {'a picture' if self.reader == 'picture' else self.reader}"
        )


def read_own(source: Path, reader: str | None = None, skip_damaged: bool = False) -> OwnData:
    """Read your own images; where none are set apart for testing, TEST_PART of each class becomes the test.

    Args:
        source: one of
            - a folder with one sub-folder of images per class, or with train/ and test/ that hold such sub-folders,
            - a CSV file in the form of Kaggle's digit-recognizer (`read_csv`), or a folder with train.csv,
            - an .npz file in the form of Keras' mnist.npz (`read_npz`), or a folder with mnist.npz,
            - a folder with four IDX files under MNIST's names (`read_idx_files`).
        reader: how pictures become 28x28; None: as handwriting where every class is a digit, else as a picture.
        skip_damaged: go on without the image files that cannot be read, rather than raise.

    Raises:
        DataError: the source is missing, damaged or unfit; the text names the file and the place in it.
    """
    if not source.exists():
        raise DataError(f"data.source = {source} does not exist")
    if source.is_dir():
        names = {path.name for path in visible(source)}
        if names & {name + end for name in FILES for end in ("", ".gz")}:
            return with_classes(source, *read_idx_files(source), reader)
        if not any(path.is_dir() for path in visible(source)):
            source /= next((name for name in ("train.csv", "mnist.npz") if name in names), "")
    if source.is_dir():
        return read_folder(source, reader, skip_damaged)
    if source.suffix.lower() == ".csv":
        return with_classes(source, read_csv(source), None, reader)
    if source.suffix.lower() == ".npz":
        return with_classes(source, *read_npz(source), reader)
    raise DataError(f"data.source = {source} is a file of another kind; it is a folder, a .csv file or an .npz file")


def choose_reader(class_names: Sequence[str]) -> str:
    """How pictures of these classes become 28x28: as handwriting where every class is a digit, else as a picture."""
    return "handwriting" if set(class_names) <= set(DIGITS) else "picture"


def with_classes(source: Path, train: Labelled, test: Labelled | None, reader: str | None) -> OwnData:
    """Number the classes of images that are 28x28 already, and set some apart for testing where none are."""
    class_names = tuple(sorted(set(train.labels), key=natural_order))
    check_classes(source, class_names)
    index = {name: k for k, name in enumerate(class_names)}
    labels = np.array([index[label] for label in train.labels])
    counts = np.bincount(labels, minlength=len(class_names))
    check_counts(source, class_names, counts.tolist(), least=2 if test else 3)
    if test and (unknown := set(test.labels) - set(class_names)):
        raise DataError(f"{source}: class {min(unknown)!r} has test images, but no training images")
    if test:
        arrays = Arrays(train.images, labels, test.images, np.array([index[label] for label in test.labels]))
    else:
        arrays = split(train.images, labels, len(class_names))
    return OwnData(class_names, arrays, reader or choose_reader(class_names))


def split(images: UInt8[np.ndarray, "n 28 28"], labels: Integer[np.ndarray, " n"], classes: int) -> Arrays:
    """Set TEST_PART of each class apart for testing, at least one image, always the same ones."""
    count = max(classes, round(len(labels) * TEST_PART))
    test = hold_out(torch.tensor(labels), count, torch.Generator().manual_seed(0)).numpy()
    return Arrays(images[~test], labels[~test], images[test], labels[test])


def check_classes(source: Path, class_names: Sequence[str]) -> None:
    """Raise DataError unless there are 2 to 256 classes."""
    if not 2 <= len(class_names) <= 256:
        raise DataError(f"{source} has {len(class_names)} classes {[*class_names][:3]}; it takes 2 to 256")


def check_counts(source: Path, class_names: Sequence[str], counts: Sequence[int], least: int) -> None:
    """Raise DataError unless every class has so many images."""
    for name, count in zip(class_names, counts, strict=True):
        if count < least:
            raise DataError(f"{source}: class {name!r} has {count} images; it takes at least {least}")


def natural_order(name: str) -> list[Any]:
    """A sorting key that puts 2 before 10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


# A folder of images per class


class Pictures(NamedTuple):
    """The pictures of some classes' folders.

    Attributes:
        images, labels: of those that can be read.
        sizes: width and height of each.
        damaged: a line for each file that cannot be read, with the reason.
    """

    images: list[UInt8[np.ndarray, "28 28"]]
    labels: list[int]
    sizes: list[tuple[int, int]]
    damaged: list[str]


def read_folder(source: Path, reader: str | None, skip_damaged: bool) -> OwnData:
    """The images of a folder with one sub-folder per class, or with train/ and test/ that hold such sub-folders.

    Training images are read as the server will read what is sent: by the same reader.
    """
    names = {path.name for path in visible(source)}
    if {"train", "test"} <= names:
        if extra := names - {"train", "test"}:
            raise DataError(f"{source} has {min(extra)!r} beside train and test; it would not be used")
        parts = {source / "train": 2, source / "test": 1}  # images that each class has at least
    else:
        parts = {source: 3}  # to train, to validate and to test
    folders = {folder: class_folders(folder) for folder in parts}
    class_names, *others = (tuple(classes) for classes in folders.values())
    if others and class_names != others[0]:
        raise DataError(f"{source}: train and test differ in their classes: {sorted({*class_names} ^ {*others[0]})}")
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
    """The files of each sub-folder of a folder, by its name. Raises DataError unless there are 2 to 256 of them."""
    content = visible(folder)
    classes = {path.name: visible(path) for path in content if path.is_dir()}
    if not 2 <= len(classes) <= 256:
        raise DataError(f"{folder} has {len(classes)} sub-folders {[*classes][:3]}; it takes one a class, 2 to 256")
    if unused := [path.name for path in content if not path.is_dir()]:
        log.warning("%s: %d files beside the class folders are not used, %r first.", folder, len(unused), unused[0])
    return classes


def read_pictures(description: str, classes: Sequence[Sequence[Path]], reader: str) -> Pictures:
    """Read the files of each class.

    Args:
        description: of the progress bar, shown on terminals.
        classes: each one's files.
        reader: one of READERS.
    """
    pictures = Pictures([], [], [], [])
    files = [(path, label) for label, paths in enumerate(classes) for path in paths]
    for path, label in tqdm(files, desc=description, disable=None):
        try:
            content = path.read_bytes()
            pictures.images.append(READERS[reader](content))
            pictures.labels.append(label)
            pictures.sizes.append(size_of(content))
        except OSError as error:
            pictures.damaged.append(f"{path}: {error.strerror}")
        except (NotAnImage, NothingToRead) as error:
            pictures.damaged.append(f"{path}: {error}")
    return pictures


def check_damaged(source: Path, damaged: Sequence[str], skip_damaged: bool) -> None:
    """List the files that cannot be read, if any: as a DataError, or with skip_damaged as a warning."""
    if not damaged:
        return
    more = [f"and {len(damaged) - MOST_LISTED} more"] if len(damaged) > MOST_LISTED else []
    files = "1 file" if len(damaged) == 1 else f"{len(damaged)} files"
    lines = "\n  ".join([*damaged[:MOST_LISTED], *more])
    if not skip_damaged:
        raise DataError(
            f"{source}: {files} cannot be read; repair or remove what is listed here, or set data.skip_damaged to true "
            f"to go on without it:\n  {lines}"
        )
    log.warning("%s: %s cannot be read and will be left out (data.skip_damaged):\n  %s", source, files, lines)


def size_of(image: bytes) -> tuple[int, int]:
    """Width and height of an image that can be decoded."""
    with Image.open(io.BytesIO(image), formats=FORMATS) as picture:
        return picture.size


def area(size: tuple[int, int]) -> int:
    """Pixels of a picture of this width and height."""
    return size[0] * size[1]


def visible(folder: Path) -> list[Path]:
    """What a folder holds, in natural order; hidden files and JUNK are left out."""
    try:
        paths = [p for p in folder.iterdir() if not p.name.startswith(".") and p.name.casefold() not in JUNK]
    except OSError as error:
        raise DataError(f"{folder} is no folder of images ({error.strerror})") from error
    return sorted(paths, key=lambda path: natural_order(path.name))


# Files of images that are 28x28 already


def check_size(where: str, height: int, width: int) -> None:
    """Raise DataError unless images are 28x28."""
    if (height, width) != (SIDE, SIDE):
        raise DataError(f"{where} holds images of {width}x{height} pixels; they must be {SIDE}x{SIDE}")


def read_csv(path: Path) -> Labelled:
    """The images of a CSV file in the form of Kaggle's digit-recognizer: a header, label,pixel0,…,pixel783, then rows.

    A label is any text, a pixel a whole number from 0 (paper) to 255 (ink).

    Raises:
        DataError: another header, or a row that does not fit it; the text names line, column and value.
    """
    images, labels = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            check_header(path, header)
            for row in rows:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(f"{path}, line {rows.line_num}: {len(row)} values; the header has {len(header)}")
                if not row[0]:
                    raise DataError(f"{path}, line {rows.line_num}: the label is missing")
                labels.append(row[0])
                try:
                    images.append(bytes(map(int, row[1:])))
                except ValueError:
                    name, value = next((n, v) for n, v in zip(header[1:], row[1:], strict=True) if not is_pixel(v))
                    raise DataError(
                        f"{path}, line {rows.line_num}, column {name}: {value!r} is no whole number from 0 to 255"
                    ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not images:
        raise DataError(f"{path} holds no images, only a header")
    return Labelled(np.frombuffer(b"".join(images), np.uint8).reshape(-1, SIDE, SIDE), labels)


def check_header(path: Path, header: Sequence[str]) -> None:
    """Raise DataError unless the header of a CSV file is label,pixel0,…,pixel783 (or pixel1,…,pixel784)."""
    form = f"the header must be label,pixel0,…,pixel{SIDE * SIDE - 1}"
    first = header[0].strip().lower() if header else ""
    if first.startswith("pixel"):
        raise DataError(f"{path} has no column `label`; images without labels, as in Kaggle's test.csv, cannot be used")
    if first != "label" or not all(name.strip().lower().startswith("pixel") for name in header[1:]):
        raise DataError(f"{path}, line 1: {','.join(header)[:40]!r}; {form}")
    if len(header) - 1 != SIDE * SIDE:
        side = isqrt(len(header) - 1)
        size = f", images of {side}x{side}" if side * side == len(header) - 1 else ""
        raise DataError(f"{path}, line 1: {len(header) - 1} pixels{size}; they must be {SIDE}x{SIDE}, {form}")


def is_pixel(value: str) -> bool:
    """Whether a text is a whole number from 0 to 255."""
    try:
        return 0 <= int(value) <= 255
    except ValueError:
        return False


def read_npz(path: Path) -> tuple[Labelled, Labelled | None]:
    """The images of an .npz file in the form of Keras' mnist.npz: x_train and y_train, perhaps x_test and y_test.

    x is (n, 28, 28) or (n, 28, 28, 1), whole numbers 0 to 255; y is (n,) or (n, 1), whole numbers or texts.

    Raises:
        DataError: an array is missing or has another form; the text names its key.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {key: content[key] for key in content.files if key in ("x_train", "y_train", "x_test", "y_test")}
            found = list(content.files)
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as an .npz file of plain arrays: {error}") from error
    needed = ["x_train", "y_train"] + (["x_test", "y_test"] if {"x_test", "y_test"} & arrays.keys() else [])
    if missing := [key for key in needed if key not in arrays]:
        raise DataError(
            f"{path} has no array {missing[0]}, only {', '.join(found) or 'none'}; it takes x_train, y_train"
        )
    train, *test = (
        label_images(f"{path}, {needed[k]}", f"{path}, {needed[k + 1]}", arrays[needed[k]], arrays[needed[k + 1]])
        for k in range(0, len(needed), 2)
    )
    return train, test[0] if test else None


def read_idx_files(folder: Path) -> tuple[Labelled, Labelled]:
    """The images of four IDX files under MNIST's names, plain or .gz.

    Raises:
        DataError: a file is missing, damaged or of another form; the text names it.
    """
    arrays: list[np.ndarray] = []
    paths: list[str] = []
    for name, dimensions in zip(FILES, (3, 1, 3, 1), strict=True):
        path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
        if path is None:
            raise DataError(f"{folder} has no {name} and no {name}.gz; it takes all of {', '.join(FILES)}")
        paths.append(str(path))
        try:
            content = decompress(path.read_bytes())
        except (OSError, DataError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        if content[:3] != b"\0\0\x08" or content[3:4] != bytes((dimensions,)):
            raise DataError(
                f"{path} begins with {content[:4].hex(' ')}; an IDX file of bytes in {dimensions} dimensions begins "
                f"with 00 00 08 {dimensions:02}"
            )
        shape = np.frombuffer(content[4 : 4 + 4 * dimensions].ljust(4 * dimensions, b"\0"), ">u4").tolist()
        expected = 4 + 4 * dimensions + int(np.prod(shape, dtype=object))
        if len(content) != expected:
            raise DataError(f"{path} has {len(content)} bytes; its header, {shape}, promises {expected}")
        arrays.append(read_idx(content))
    return label_images(paths[0], paths[1], arrays[0], arrays[1]), label_images(
        paths[2], paths[3], arrays[2], arrays[3]
    )


def label_images(images_from: str, labels_from: str, images: np.ndarray, labels: np.ndarray) -> Labelled:
    """Images (n, 28, 28) or (n, 28, 28, 1) with labels (n,) or (n, 1), held to their form.

    Args:
        images_from, labels_from: where they are, for messages.
        images: whole numbers 0 to 255, of any type.
        labels: whole numbers or texts.

    Raises:
        DataError: another form.
    """
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim != 3:
        raise DataError(f"{images_from} has the shape {images.shape}; grey images are (n, {SIDE}, {SIDE})")
    check_size(images_from, *images.shape[1:])
    if not len(images):
        raise DataError(f"{images_from} holds no images")
    if images.dtype != np.uint8:
        if images.dtype.kind not in "uif":
            raise DataError(f"{images_from} holds {images.dtype}; pixels are whole numbers from 0 to 255")
        wrong = ~((images >= 0) & (images <= 255) & (images == np.floor(images)))
        if wrong.any():
            raise DataError(f"{images_from} holds {images[wrong][0]:g}; pixels are whole numbers from 0 to 255")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != images.shape[:1]:
        raise DataError(f"{labels_from} has the shape {labels.shape}, but there are {len(images)} images")
    if labels.dtype.kind not in "uiU":
        raise DataError(f"{labels_from} holds {labels.dtype}; labels are whole numbers or texts, one an image")
    return Labelled(images.astype(np.uint8), [str(label) for label in labels.tolist()])


def decompress(content: bytes) -> bytes:
    """Undo gzip where there is any."""
    try:
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"a gzip file is corrupt: {error}") from error
