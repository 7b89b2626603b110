"""Read the user's own images that are 28x28 already: a CSV file, an .npz file or four IDX files."""

import csv
import zipfile
import zlib
from collections.abc import Sequence
from math import isqrt
from pathlib import Path

import numpy as np

from mnist_pipeline.data.dataset import FILES, DataError
from mnist_pipeline.data.idx import decompress, read_idx
from mnist_pipeline.folders import normalise_name
from mnist_pipeline.reading import SIDE
from mnist_pipeline.sources.own_classes import Labelled


def check_size(where: str, height: int, width: int) -> None:
    """Check that images are 28x28; raises DataError."""
    if (height, width) != (SIDE, SIDE):
        raise DataError(f"{where} holds images of {width}x{height} pixels; they must be {SIDE}x{SIDE}")


def read_csv(path: Path) -> Labelled:
    """Read a CSV file in the form of Kaggle's digit-recognizer: a header, label,pixel0,…,pixel783, then rows.

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
                if not (label := normalise_name(row[0])):
                    raise DataError(f"{path}, line {rows.line_num}: the label is missing")
                labels.append(label)
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
    """Check that the header of a CSV file is label,pixel0,…,pixel783 (or pixel1,…,pixel784); raises DataError."""
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
    """Tell whether a text is a whole number from 0 to 255."""
    try:
        return 0 <= int(value) <= 255
    except ValueError:
        return False


def read_npz(path: Path) -> tuple[Labelled, Labelled | None]:
    """Read an .npz file in the form of Keras' mnist.npz: x_train and y_train, perhaps x_test and y_test.

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
    """Read four IDX files under MNIST's names, plain or .gz.

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
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        if content[:3] != b"\0\0\x08" or content[3:4] != bytes((dimensions,)):
            raise DataError(
                f"{path} starts with {content[:4].hex(' ')}; an IDX file of bytes in {dimensions} dimensions starts "
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
    """Check images (n, 28, 28) or (n, 28, 28, 1) and their labels (n,) or (n, 1), and join them.

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
    return Labelled(images.astype(np.uint8), [normalise_name(str(label)) for label in labels.tolist()])
