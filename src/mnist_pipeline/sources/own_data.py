"""What the user's own images have in common, whatever form they come in: their classes, and a split for the test."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Integer, UInt8

from mnist_pipeline.data.dataset import DataError, are_uneven, hold_out
from mnist_pipeline.reading import Form

TEST_PART = 1 / 7  # of the images of each class, where no test images are given; MNIST's proportion
NEARLY_EQUAL = 0.15  # root mean square of two images' difference, for each unit of their standard deviation
MOST_COMPARED = 20  # training images of one hash that a test image is compared with
MOST_PAIRS = 3  # of nearly equal images that a message names


class Part(NamedTuple):
    """Some images, the index of each one's class, and what each is called."""

    images: UInt8[np.ndarray, "n channels side side"]
    labels: Integer[np.ndarray, " n"]
    names: np.ndarray


class OwnData(NamedTuple):
    """The user's own images, ready to be stored."""

    class_names: tuple[str, ...]
    form: Form
    sizes: str  # width and height of the smallest and of the largest picture
    train: Part
    test: Part

    def summary(self) -> str:
        """Describe classes, images, their sizes, how many are for training and testing, and how they are read."""
        names = ", ".join(self.class_names[:3]) + (", …" if len(self.class_names) > 3 else "")
        train, test = len(self.train.labels), len(self.test.labels)
        kind = "handwriting" if self.form.reader == "handwriting" else "pictures"
        ground = ", on black" if self.form.on_black else ""
        return (
            f"{len(self.class_names)} classes ({names}), {train + test} images of {self.sizes} pixels: {train} to "
            f"train, {test} to test, read as {kind} of {self.form.size}x{self.form.size} in {self.form.colour}{ground} "
            "(data.reader, data.image_size and data.colour change that)"
        )


def split(part: Part, classes: int) -> tuple[Part, Part]:
    """Make some of the images the test images."""
    is_test = choose_test_images(part.labels, classes)
    return Part(*(values[~is_test] for values in part)), Part(*(values[is_test] for values in part))


def choose_test_images(labels: Integer[np.ndarray, " n"], classes: int) -> Bool[np.ndarray, " n"]:
    """Choose TEST_PART of each class as test images: at least one image, always the same ones; a mask."""
    count = max(classes, round(len(labels) * TEST_PART))
    return hold_out(torch.tensor(labels), count, torch.Generator().manual_seed(0)).numpy()


def check_classes(source: Path, class_names: Sequence[str]) -> None:
    """Check that there are 2 to 256 classes; raises DataError."""
    if not 2 <= len(class_names) <= 256:
        raise DataError(f"{source} has {len(class_names)} classes {[*class_names][:3]}; it takes 2 to 256")


def check_counts(source: Path, class_names: Sequence[str], labels: Integer[np.ndarray, " n"], least: int) -> None:
    """Check that every class has at least so many images; raises DataError."""
    for name, count in zip(class_names, np.bincount(labels, minlength=len(class_names)), strict=True):
        if count < least:
            raise DataError(f"{source}: class {name!r} has {count} images; it takes at least {least}")


def describe_uneven_classes(data: OwnData) -> str | None:
    """Say which classes have the fewest and the most training images, where these are uneven."""
    labels = torch.tensor(data.train.labels)
    if not are_uneven(labels):
        return None
    counts = labels.bincount()
    few, many = int(counts.argmin()), int(counts.argmax())
    advice = "; compare models by balanced_accuracy" if are_uneven(torch.tensor(data.test.labels)) else ""
    return (
        f"the classes are uneven: {data.class_names[few]!r} has {counts[few]} training images, "
        f"{data.class_names[many]!r} has {counts[many]}{advice}"
    )


def describe_duplicates(data: OwnData) -> str | None:
    """Say which test images are nearly equal to a training image: the network has seen them."""
    train, test = data.train, data.test
    seen: dict[bytes, list[int]] = {}
    for k, image in enumerate(train.images):
        seen.setdefault(hash_image(image), []).append(k)
    pairs = []
    for name, image in zip(test.names, test.images, strict=True):
        among = seen.get(hash_image(image), [])[:MOST_COMPARED]
        differences = train.images[among] - image.astype(np.float32)
        near = np.flatnonzero((differences**2).mean((1, 2, 3)) <= (NEARLY_EQUAL * image.std()) ** 2)
        if near.size:
            pairs.append(f"{name} = {train.names[among[near[0]]]}")
    if not pairs:
        return None
    more = ", …" if len(pairs) > MOST_PAIRS else ""
    return (
        f"{len(pairs)} of {len(test.labels)} test images are nearly equal to a training image, so the test accuracy is "
        f"too high: {', '.join(pairs[:MOST_PAIRS])}{more}"
    )


def hash_image(image: UInt8[np.ndarray, "channels side side"]) -> bytes:
    """The difference hash of an image, 64 bits: nearly equal images mostly have the same (Krawetz 2013)."""
    small = cv2.resize(image.mean(0).astype(np.float32), (9, 8), interpolation=cv2.INTER_AREA).round()
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes()
