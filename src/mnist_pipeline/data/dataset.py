"""Load a downloaded dataset as uint8 tensors, verify its checksums and hold out images for validation."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64, Integer, UInt8
from torch import Tensor

from mnist_pipeline.console import PipelineError
from mnist_pipeline.data.catalogue import default_hyperparameters
from mnist_pipeline.data.idx import read_idx

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DESCRIPTION = "dataset.json"
UNEVEN = 2  # times the images of the smallest class: if the largest has more, accuracy hides the smallest
LEAST_TRAINING_IMAGES = 20_000  # where fewer would be left, at most a fifth is held out for validation

log = logging.getLogger(__name__)


class DataError(PipelineError):
    """A dataset is missing, damaged or unsuitable; the message names it and says what would be right."""


class Examples(NamedTuple):
    """Images, 0 to 255 (of handwriting: paper to ink), and the index of each one's class."""

    images: UInt8[Tensor, "n channels side side"]
    labels: Int64[Tensor, " n"]


class Arrays(NamedTuple):
    """The content of FILES."""

    train_images: UInt8[np.ndarray, "train channels side side"]
    train_labels: Integer[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test channels side side"]
    test_labels: Integer[np.ndarray, " test"]


@dataclass(frozen=True)
class Dataset:
    """The training images of a dataset, some of them held out for validation."""

    name: str  # a key of DATASETS
    class_names: tuple[str, ...]
    reader: str  # this and the next two, fields of reading.Form: how a picture that is sent becomes an image
    colour: str
    on_black: bool
    mean: list[float]  # of all training pixels, in 0..1, for each channel
    std: list[float]
    checksums: dict[str, str]  # file name -> SHA-256, of all FILES
    train: Examples
    validation: Examples

    @property
    def image_size(self) -> int:
        """Height and width of the images."""
        return self.train.images.shape[-1]

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The hyperparameters that suit this dataset, by name."""
        return default_hyperparameters(
            self.name, self.class_names, self.reader, self.image_size, self.colour, on_black=self.on_black
        )


def load(folder: str | Path, validation_images: int, seed: int) -> Dataset:
    """Read the training images from the output of `download` and hold some out; the same seed holds out the same.

    Every class is held out in proportion, and has at least one image on each side. Where fewer than
    LEAST_TRAINING_IMAGES would be left, at most a fifth of all is held out. Raises DataError.
    """
    about = describe(folder)
    labels = read_array(Path(folder) / FILES[1], about).long()
    classes, count = len(about["class_names"]), len(labels)
    if validation_images < classes or count < 2 * classes:
        raise DataError(
            f"data.validation_images = {validation_images}; of {count} training images of {classes} classes at least "
            f"{classes} are held out and as many left, so that both sides have one of each"
        )
    held_out_images = validation_images
    if count - validation_images < LEAST_TRAINING_IMAGES:
        held_out_images = min(validation_images, max(classes, count // 5))
    if held_out_images < validation_images:
        text = "data.validation_images = %d is more than a fifth of %d images: %d are held out."
        log.info(text, validation_images, count, held_out_images)
    generator = torch.Generator().manual_seed(seed)
    held_out = hold_out(labels, held_out_images, generator)
    order = torch.randperm(count, generator=generator)  # so that any first few are a fair sample
    validation, train = order[held_out[order]], order[~held_out[order]]
    images = read_images(Path(folder) / FILES[0], about)
    return Dataset(
        name=about["name"],
        class_names=tuple(about["class_names"]),
        reader=about["reader"],
        colour=about["colour"],
        on_black=about["on_black"],
        mean=about["mean"],
        std=about["std"],
        checksums=about["sha256"],
        train=Examples(images[train], labels[train]),
        validation=Examples(images[validation], labels[validation]),
    )


def hold_out(labels: Int64[Tensor, " n"], count: int, generator: torch.Generator) -> Bool[Tensor, " n"]:
    """Draw a stratified split: a mask of `count` random images, of each class in proportion.

    Each class is shuffled and its images are ranked from 0 to 1; the `count` lowest ranks are held out. So every class
    has at least one image on each side, if classes <= count <= n - classes and each class has two images or more.
    """
    order = torch.randperm(len(labels), generator=generator)
    rank, mask = torch.zeros(len(labels)), torch.zeros(len(labels), dtype=torch.bool)
    for label, size in enumerate(labels.bincount().tolist()):
        rank[order[labels[order] == label]] = torch.linspace(0, 1, size)
    mask[rank.argsort(stable=True)[:count]] = True
    return mask


def are_uneven(labels: Int64[Tensor, " n"]) -> bool:
    """Whether the largest class has more than UNEVEN times the images of the smallest, of those that have any."""
    counts = labels.bincount()
    return bool(counts.max() > UNEVEN * counts[counts > 0].min())


def load_test(folder: str | Path) -> Examples:
    """Read the test images; only `evaluate` looks at them. Raises DataError."""
    images, labels = (Path(folder) / name for name in FILES[2:])
    about = describe(folder)
    return Examples(read_images(images, about), read_array(labels, about).long())


def describe(folder: str | Path) -> dict[str, Any]:
    """Read and check dataset.json, which `download` wrote. Raises DataError."""
    path = Path(folder) / DESCRIPTION
    try:
        about = dict(json.loads(path.read_bytes()))
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"{folder} holds no downloaded dataset ({error}); run `dvc repro download`") from error
    required = {"name", "class_names", "reader", "image_size", "colour", "on_black", "mean", "std", "sha256"}
    if required - about.keys():
        raise DataError(f"{path} does not describe a dataset of this version; run `dvc repro --force download`")
    return about


def read_array(path: Path, about: dict[str, Any]) -> UInt8[Tensor, "n ..."]:
    """Read one of FILES and verify its SHA-256."""
    try:
        with path.open("rb") as file:
            check(path, "SHA-256", hashlib.file_digest(file, "sha256").hexdigest(), about["sha256"][path.name])
        return torch.from_numpy(read_idx(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); run `dvc repro --force download`") from error


def read_images(path: Path, about: dict[str, Any]) -> UInt8[Tensor, "n channels side side"]:
    """Read a file of images as `read_array` does. Grey images are stored as MNIST's, without an axis for channels."""
    images = read_array(path, about)
    return images[:, None] if images.ndim == 3 else images


def check(what: str | Path, algorithm: str, found: str, expected: str) -> None:
    """Compare checksums; raises DataError."""
    if found != expected:
        raise DataError(f"{what} is corrupt: expected {algorithm} {expected}, found {found}")
