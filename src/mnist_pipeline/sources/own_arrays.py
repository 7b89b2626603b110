"""Read the user's own images that are arrays already: a CSV file, an .npz file or four IDX files."""

import csv
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnist_pipeline.data.dataset import FILES, DataError
from mnist_pipeline.data.idx import decompress, read_idx
from mnist_pipeline.folders import natural_order, normalise_name
from mnist_pipeline.reading import SIDE, Form, fit_picture
from mnist_pipeline.sources.forms import MOST_LOOKED_AT, Wanted, choose_form, look_at
from mnist_pipeline.sources.own_classes import OwnData, Part, check_classes, check_counts, combine


class Labelled(NamedTuple):
    """Images, uint8 (n, h, w) or, in RGB, (n, h, w, 3), with the name of each one's class."""

    images: np.ndarray
    labels: list[str]


def number_classes(source: Path, train: Labelled, test: Labelled | None, wanted: Wanted) -> OwnData:
    """Number the classes of images, bring those into one form, and split off test images where none are given."""
    class_names = tuple(sorted(set(train.labels), key=natural_order))
    check_classes(source, class_names)
    counts = Counter(train.labels)
    check_counts(source, class_names, [counts[name] for name in class_names], least=2 if test else 3)
    if test and (unknown := set(test.labels) - set(class_names)):
        raise DataError(f"{source}: class {min(unknown)!r} has test images, but no training images")
    height, width = train.images.shape[1:3]
    if (height, width) != (SIDE, SIDE):
        if wanted.reader == "handwriting":
            raise DataError(
                f"{source} holds images of {width}x{height} pixels; arrays of handwriting are laid out as MNIST's, in "
                f"{SIDE}x{SIDE}; set data.reader to picture"
            )
        wanted = wanted._replace(reader="picture")
    form = choose_form(map(look_at, train.images[:: -(-len(train.labels) // MOST_LOOKED_AT)]), class_names, wanted)
    index = {name: k for k, name in enumerate(class_names)}
    parts = [
        Part(
            fit_all(part.images, form),
            np.array([index[label] for label in part.labels]),
            [f"{kind} image {k}" for k in range(len(part.labels))],
        )
        for kind, part in (("training", train), ("test", test))
        if part
    ]
    return combine(class_names, form, ((width, height), (width, height)), parts)


def fit_all(images: np.ndarray, form: Form) -> np.ndarray:
    """Bring images (n, h, w) or (n, h, w, 3) into a form: uint8 (n, C, S, S). None is inverted."""
    if images.shape[1:] == (form.size, form.size) and form.colour == "grey":
        return images[:, None]
    return np.stack([fit_picture(image, form._replace(on_black=False)) for image in images])


def read_csv(path: Path) -> Labelled:
    """Read a CSV file in the form of Kaggle's digit-recognizer: a header, label,pixel0,…,pixel783, then rows.

    A label is any text, a pixel a whole number from 0 to 255; the images are square, of any size. Raises DataError.
    """
    images, labels = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            side = check_header(path, header)
            for row in filter(None, rows):
                where = f"{path}, line {rows.line_num}"
                if len(row) != len(header):
                    raise DataError(f"{where}: {len(row)} values; the header has {len(header)}")
                if not (label := normalise_name(row[0])):
                    raise DataError(f"{where}: the label is missing")
                labels.append(label)
                try:
                    images.append(bytes(map(int, row[1:])))
                except ValueError as error:
                    raise DataError(f"{where}: pixels are whole numbers from 0 to 255 ({error})") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not images:
        raise DataError(f"{path} holds no images, only a header")
    return Labelled(np.frombuffer(b"".join(images), np.uint8).reshape(-1, side, side), labels)


def check_header(path: Path, header: Sequence[str]) -> int:
    """Return the side of the images of a CSV file with this header; raises DataError."""
    first, *pixels = [name.strip().lower() for name in header] or [""]
    side = isqrt(len(pixels))
    if first != "label" or not all(name.startswith("pixel") for name in pixels) or len(pixels) != max(1, side**2):
        raise DataError(
            f"{path}, line 1: {','.join(header)[:40]!r} and {len(pixels)} columns; the header must be "
            "label,pixel0,pixel1,… of square images (Kaggle's test.csv has no labels and cannot be used)"
        )
    return side


def read_npz(path: Path) -> tuple[Labelled, Labelled | None]:
    """Read an .npz file in the form of Keras' mnist.npz: x_train and y_train, perhaps x_test and y_test.

    x is (n, h, w), (n, h, w, 1) or (n, h, w, 3), whole numbers 0 to 255; y is (n,) or (n, 1), whole numbers or texts.
    Raises DataError.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {key: content[key] for key in content.files if key in ("x_train", "y_train", "x_test", "y_test")}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as an .npz file of plain arrays: {error}") from error
    pairs = [("x_train", "y_train")] + ([("x_test", "y_test")] if {"x_test", "y_test"} & arrays.keys() else [])
    if missing := [key for pair in pairs for key in pair if key not in arrays]:
        raise DataError(f"{path} has no array {missing[0]}; it takes x_train and y_train, perhaps x_test and y_test")
    train, *test = (label_images(f"{path}, {x}", f"{path}, {y}", arrays[x], arrays[y]) for x, y in pairs)
    return train, test[0] if test else None


def read_idx_files(folder: Path) -> tuple[Labelled, Labelled]:
    """Read four IDX files under MNIST's names, plain or .gz: images (n, h, w) or (n, 3, h, w). Raises DataError."""
    arrays: list[np.ndarray] = []
    paths: list[str] = []
    for name in FILES:
        path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
        if path is None:
            raise DataError(f"{folder} has no {name} and no {name}.gz; it takes all of {', '.join(FILES)}")
        paths.append(str(path))
        try:
            content = decompress(path.read_bytes())
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        if content[:3] != b"\0\0\x08" or content[3:4] not in (b"\1", b"\3", b"\4"):
            raise DataError(
                f"{path} starts with {content[:4].hex(' ')}; an IDX file of bytes starts with 00 00 08 and 01 "
                "for labels, 03 or, in colour, 04 for images"
            )
        axes = content[3]
        shape = np.frombuffer(content[4 : 4 + 4 * axes].ljust(4 * axes, b"\0"), ">u4").tolist()
        expected = 4 + 4 * axes + int(np.prod(shape, dtype=object))
        if len(content) != expected:
            raise DataError(f"{path} has {len(content)} bytes; its header, {shape}, promises {expected}")
        array = read_idx(content)
        if axes == 4 and array.shape[1] not in (1, 3):
            raise DataError(f"{path} has the shape {array.shape}; images are (n, h, w), or (n, 3, h, w) in colour")
        arrays.append(array.transpose(0, 2, 3, 1) if axes == 4 else array)
    train, test = (label_images(paths[k], paths[k + 1], arrays[k], arrays[k + 1]) for k in (0, 2))
    return train, test


def label_images(images_from: str, labels_from: str, images: np.ndarray, labels: np.ndarray) -> Labelled:
    """Check images (n, h, w), (n, h, w, 1) or (n, h, w, 3) and labels (n,) or (n, 1). Raises DataError."""
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim != 3 and not (images.ndim == 4 and images.shape[3] == 3):
        raise DataError(f"{images_from} has the shape {images.shape}; images are (n, h, w), or (n, h, w, 3) in colour")
    if not images.size:
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
    return Labelled(images.astype(np.uint8, copy=False), [normalise_name(str(label)) for label in labels.tolist()])
