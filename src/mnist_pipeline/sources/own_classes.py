"""What the user's own images have in common, whatever form they come in: their classes, and a split for the test."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Integer, UInt8

from mnist_pipeline.data.catalogue import DIGITS
from mnist_pipeline.data.dataset import Arrays, DataError, hold_out
from mnist_pipeline.folders import natural_order
from mnist_pipeline.reading import SIDE

TEST_PART = 1 / 7  # of the images of each class, where no test images are given; MNIST's proportion
LONGEST_NAME = 255  # characters of a class, as of a file


class Labelled(NamedTuple):
    """Images with the name of each one's class."""

    images: UInt8[np.ndarray, "n 28 28"]
    labels: list[str]


class OwnData(NamedTuple):
    """The user's own images, ready to be stored.

    Attributes:
        class_names: by index.
        arrays: the images, split into training and test images.
        reader: one of READERS.
        sizes: width and height of the smallest and of the largest picture.
    """

    class_names: tuple[str, ...]
    arrays: Arrays
    reader: str
    sizes: tuple[tuple[int, int], tuple[int, int]] = ((SIDE, SIDE), (SIDE, SIDE))

    def summary(self) -> str:
        """Describe classes, images, their sizes, how many are for training and testing, and how they are read."""
        names = ", ".join(self.class_names[:3]) + (", …" if len(self.class_names) > 3 else "")
        train, test = len(self.arrays.train_labels), len(self.arrays.test_labels)
        smallest, largest = (f"{width}x{height}" for width, height in self.sizes)
        size = smallest if smallest == largest else f"{smallest} to {largest}"
        return (
            f"{len(self.class_names)} classes ({names}), {train + test} images of {size} pixels: "
            f"{train} to train, {test} to test, read as {'a picture' if self.reader == 'picture' else self.reader}"
        )


def choose_reader(class_names: Sequence[str]) -> str:
    """Choose the reader for pictures of these classes: handwriting where every class is a digit, else picture."""
    return "handwriting" if set(class_names) <= set(DIGITS) else "picture"


def number_classes(source: Path, train: Labelled, test: Labelled | None, reader: str | None) -> OwnData:
    """Number the classes of images that are 28x28 already, and split off test images where none are given."""
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
    """Split off TEST_PART of each class as test images: at least one image, always the same ones."""
    count = max(classes, round(len(labels) * TEST_PART))
    test = hold_out(torch.tensor(labels), count, torch.Generator().manual_seed(0)).numpy()
    return Arrays(images[~test], labels[~test], images[test], labels[test])


def check_classes(source: Path, class_names: Sequence[str]) -> None:
    """Check that there are 2 to 256 classes, and their names; raises DataError."""
    if not 2 <= len(class_names) <= 256:
        raise DataError(f"{source} has {len(class_names)} classes {[*class_names][:3]}; it takes 2 to 256")
    check_names(source, class_names)


def check_names(source: Path, class_names: Sequence[str]) -> None:
    """Check that the name of every class is a text that can be written to a file; raises DataError."""
    for name in class_names:
        unfit = any(unicodedata.category(character) in ("Cc", "Cs") for character in name)  # control, broken UTF-8
        if unfit or not 1 <= len(name) <= LONGEST_NAME:
            raise DataError(
                f"{source}: a class is called {name[:40]!r}; a name is UTF-8 of 1 to {LONGEST_NAME} characters, "
                "without control characters"
            )


def check_counts(source: Path, class_names: Sequence[str], counts: Sequence[int], least: int) -> None:
    """Check that every class has at least so many images; raises DataError."""
    for name, count in zip(class_names, counts, strict=True):
        if count < least:
            raise DataError(f"{source}: class {name!r} has {count} images; it takes at least {least}")
