"""Load a downloaded dataset as uint8 tensors, verify its checksums and hold out images for validation."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64, Integer, UInt8
from torch import Tensor

from mnist_pipeline.console import PipelineError
from mnist_pipeline.data.catalogue import DATASETS
from mnist_pipeline.data.idx import read_idx

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DESCRIPTION = "dataset.json"
LEAST_TRAINING_IMAGES = 20_000  # where fewer would be left, at most a fifth is held out for validation

log = logging.getLogger(__name__)


class DataError(PipelineError):
    """A dataset is missing, damaged or unsuitable; the message names it and says what would be right."""


class Examples(NamedTuple):
    """Images, 0 (paper) to 255 (ink), and the index of each one's class."""

    images: UInt8[Tensor, "n 1 28 28"]
    labels: Int64[Tensor, " n"]


class Arrays(NamedTuple):
    """The content of FILES."""

    train_images: UInt8[np.ndarray, "train 28 28"]
    train_labels: Integer[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test 28 28"]
    test_labels: Integer[np.ndarray, " test"]


@dataclass(frozen=True)
class Dataset:
    """The training images of a dataset, some of them held out for validation.

    Attributes:
        name: a key of DATASETS.
        class_names: the labels' meaning, by index.
        reader: how a picture that is sent becomes 28x28: one of reading.READERS.
        mean, std: of all training pixels, in 0..1.
        checksums: file name -> SHA-256, of all FILES.
    """

    name: str
    class_names: tuple[str, ...]
    reader: str
    mean: float
    std: float
    checksums: dict[str, str]
    train: Examples
    validation: Examples


def load(folder: str | Path, validation_images: int, seed: int) -> Dataset:
    """Read the training images and hold some out.

    Args:
        folder: the output of `download`.
        validation_images: how many to hold out. Every class is held out in proportion, and has at least one image on
            each side. Where fewer than LEAST_TRAINING_IMAGES would be left, at most a fifth of all is held out.
        seed: the same seed holds out the same images.

    Raises:
        DataError: a file is missing, truncated or of another dataset, or validation_images is impossible.
    """
    about = describe(folder)
    images, labels = read_examples(folder, FILES[:2], about)
    classes, count = len(about["class_names"]), len(labels)
    if validation_images < classes or count < 2 * classes:
        raise DataError(
            f"data.validation_images = {validation_images}; of {count} training images of {classes} classes at least "
            f"{classes} are held out and as many left, so that both sides have one of each"
        )
    held_out_images = limit_validation(validation_images, count, classes)
    if held_out_images < validation_images:
        log.info(
            "data.validation_images = %d is more than a fifth of %d images: %d are held out.",
            validation_images,
            count,
            held_out_images,
        )
    generator = torch.Generator().manual_seed(seed)
    held_out = hold_out(labels, held_out_images, generator)
    order = torch.randperm(count, generator=generator)  # so that any first few are a fair sample
    validation, train = order[held_out[order]], order[~held_out[order]]
    return Dataset(
        name=about["name"],
        class_names=tuple(about["class_names"]),
        reader=about.get("reader") or DATASETS[about["name"]].reader,
        mean=about["mean"],
        std=about["std"],
        checksums=about["sha256"],
        train=Examples(images[train], labels[train]),
        validation=Examples(images[validation], labels[validation]),
    )


def limit_validation(validation_images: int, images: int, classes: int) -> int:
    """Limit the number of validation images: at most a fifth, where few images would be left to train with.

    Args:
        validation_images: how many are asked for, at least `classes`.
        images: the training images, at least twice `classes`.
        classes: at least one image of each is held out.
    """
    if images - validation_images >= LEAST_TRAINING_IMAGES:
        return validation_images
    return min(validation_images, max(classes, images // 5))


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


def load_test(folder: str | Path) -> Examples:
    """Read the test images; only `evaluate` looks at them.

    Raises:
        DataError: a file is missing, truncated or of another dataset.
    """
    return read_examples(folder, FILES[2:], describe(folder))


def describe(folder: str | Path) -> dict[str, Any]:
    """Read dataset.json: name, class_names, mean, std, sha256 (file name -> sum), origin.

    It also has `reader` where that is not the reader of DATASETS.

    Raises:
        DataError: the file is missing or is not the description of a dataset.
    """
    path = Path(folder) / DESCRIPTION
    try:
        about = dict(json.loads(path.read_bytes()))
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"{folder} holds no downloaded dataset ({error}); run `dvc repro download`") from error
    missing = {"name", "class_names", "mean", "std", "sha256"} - about.keys()
    if missing or set(about["sha256"]) != set(FILES):
        raise DataError(f"{path} does not describe a dataset of this project; run `dvc repro --force download`")
    return about


def read_examples(folder: str | Path, files: Sequence[str], about: dict[str, Any]) -> Examples:
    """Read one file of images and one of labels, and verify their SHA-256 sums."""
    arrays = []
    for path in (Path(folder) / file for file in files):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); run `dvc repro --force download`") from error
        check(path, "SHA-256", hashlib.sha256(content).hexdigest(), about["sha256"][path.name])
        arrays.append(read_idx(content))
    images, labels = arrays
    return Examples(torch.tensor(images).unsqueeze(1), torch.tensor(labels, dtype=torch.int64))


def check(what: str | Path, algorithm: str, found: str, expected: str) -> None:
    """Compare checksums; raises DataError."""
    if found != expected:
        raise DataError(f"{what} is corrupt: expected {algorithm} {expected}, found {found}")
