"""Read the user's own images from an .npz file, in the form of Keras' mnist.npz."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from mnist_pipeline.data.dataset import DataError
from mnist_pipeline.folders import natural_order, normalise_name
from mnist_pipeline.reading import SIDE
from mnist_pipeline.sources.forms import Wanted, choose_form, choose_step, fit_all, look_at
from mnist_pipeline.sources.own_data import OwnData, Part, check_classes, check_counts, split


def read_npz(source: Path, wanted: Wanted) -> OwnData:
    """Read x_train and y_train and, where there are test images, x_test and y_test.

    x is uint8 (n, h, w) or (n, h, w, 3), y the number or the name of each image's class. Raises DataError.
    """
    try:
        with source.open("rb") as file, np.load(file) as content:
            arrays = dict(content)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{source} cannot be read as an .npz file of plain arrays: {error}") from error
    kinds = ("train", "test") if "x_test" in arrays else ("train",)
    labels = {kind: read_labels(source, arrays, kind) for kind in kinds}
    class_names = tuple(sorted(set(labels["train"]), key=natural_order))
    check_classes(source, class_names)
    if unknown := {name for names in labels.values() for name in names} - set(class_names):
        raise DataError(f"{source}: class {min(unknown)!r} has test images, but no training images")
    images = arrays["x_train"]
    height, width = images.shape[1:3]
    if (height, width) != (SIDE, SIDE):  # arrays of handwriting are laid out as MNIST's
        wanted = wanted._replace(reader="picture")
    form = choose_form(map(look_at, images[:: choose_step(len(images))]), class_names, wanted)
    index = {name: k for k, name in enumerate(class_names)}
    parts = [
        Part(
            fit_all(arrays[f"x_{kind}"], form),
            np.array([index[name] for name in labels[kind]]),
            np.array([f"{kind} image {k}" for k in range(len(labels[kind]))]),
        )
        for kind in kinds
    ]
    check_counts(source, class_names, parts[0].labels, least=2 if len(parts) == 2 else 3)
    train, test = parts if len(parts) == 2 else split(parts[0], len(class_names))
    return OwnData(class_names, form, f"{width}x{height}", train, test)


def read_labels(source: Path, arrays: dict[str, np.ndarray], kind: str) -> list[str]:
    """Check the images and labels of one kind, train or test, and return the name of each image's class."""
    x, y = f"x_{kind}", f"y_{kind}"
    if missing := {x, y} - arrays.keys():
        raise DataError(
            f"{source} has no array {min(missing)}; it takes x_train and y_train, perhaps x_test and y_test"
        )
    images, labels = arrays[x], arrays[y].ravel()
    if images.dtype != np.uint8 or not (images.ndim == 3 or images.shape[3:] == (3,)):
        raise DataError(
            f"{source}, {x} holds {images.dtype} in the shape {images.shape}; images are uint8 (n, h, w), or "
            "(n, h, w, 3) in colour"
        )
    if len(labels) != len(images):
        raise DataError(f"{source}, {y} has {len(labels)} labels, but there are {len(images)} images")
    return [normalise_name(str(label)) for label in labels.tolist()]
