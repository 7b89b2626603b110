"""Load a downloaded dataset as uint8 tensors, held to its checksums, some training images held out."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from mnist_pipeline.errors import PipelineError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DESCRIPTION = "dataset.json"
DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")  # EMNIST merges capital and small ones
GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
ENOUGH = 20_000  # training images: where fewer would be left, at most a fifth is held out for validation

log = logging.getLogger(__name__)


class DataError(PipelineError):
    """A dataset that is missing, broken or unfit; the text says which, and what would be right."""


class Changes(NamedTuple):
    """Which random changes of a training image leave its label true."""

    affine: bool  # small rotations, shifts and scalings
    elastic: bool
    flip: bool  # left to right
    reason: str


HANDWRITING = Changes(True, True, False, "hands slant, shift and bend a character; its mirror image is another one")
CLOTHES = Changes(True, False, True, "a mirrored garment is of the same kind; a bent outline may be of another")
UNKNOWN = Changes(
    True, False, False, "of images of any kind only this much is safe to say: a small shift keeps the class"
)


class Known(NamedTuple):
    """What is known beforehand about a dataset."""

    class_names: tuple[str, ...]
    changes: Changes
    reader: str = "handwriting"  # how a picture that is sent becomes 28x28: preprocessing.READERS


DATASETS = {
    "MNIST": Known(DIGITS, HANDWRITING),
    "FashionMNIST": Known(GARMENTS, CLOTHES, "picture"),
    "KMNIST": Known(KUZUSHIJI, HANDWRITING),
    "QMNIST": Known(DIGITS, HANDWRITING),
    "EMNIST-digits": Known(DIGITS, HANDWRITING),
    "EMNIST-letters": Known(LETTERS, HANDWRITING),
    "folder": Known((), UNKNOWN, "picture"),  # classes and reader follow from what it holds
}


class Examples(NamedTuple):
    """Images, 0 (paper) to 255 (ink), and the index of each one's class."""

    images: UInt8[Tensor, "n 1 28 28"]
    labels: Int64[Tensor, " n"]


@dataclass(frozen=True)
class Dataset:
    """The training images of a dataset, some of them held out for validation.

    Attributes:
        name: one of DATASETS.
        class_names: the labels' meaning, by index.
        reader: how a picture that is sent becomes 28x28: one of preprocessing.READERS.
        mean, std: of all training pixels, 0..1.
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
        folder: what `download` wrote.
        validation_images: how many to hold out, of each class in proportion; at least one a class is held out and left.
            Where fewer than ENOUGH would be left, at most a fifth of all is held out.
        seed: the same seed holds out the same images.

    Raises:
        DataError: a file is missing, truncated or foreign, or validation_images is impossible.
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
    """How many of the training images are held out: as many as asked for, but of few images a fifth.

    Args:
        validation_images: how many are asked for, at least `classes`.
        images: the training images, at least twice `classes`.
        classes: one of each is held out at least.
    """
    if images - validation_images >= ENOUGH:
        return validation_images
    return min(validation_images, max(classes, images // 5))


def hold_out(labels: Int64[Tensor, " n"], count: int, generator: torch.Generator) -> Bool[Tensor, " n"]:
    """A mask of `count` random images, of each class in proportion.

    Where count is from the number of classes to n less that, and no class has a single image, every class is on both
    sides: an image's turn runs from 0, its class's first, to 1, its last, and the earliest turns are held out.
    """
    order = torch.randperm(len(labels), generator=generator)
    turn, mask = torch.zeros(len(labels)), torch.zeros(len(labels), dtype=torch.bool)
    for label, size in enumerate(labels.bincount().tolist()):
        turn[order[labels[order] == label]] = torch.linspace(0, 1, size)
    mask[turn.argsort(stable=True)[:count]] = True
    return mask


def load_test(folder: str | Path) -> Examples:
    """Read the test images, which `evaluate` alone looks at.

    Raises:
        DataError: a file is missing, truncated or foreign.
    """
    return read_examples(folder, FILES[2:], describe(folder))


def describe(folder: str | Path) -> dict[str, Any]:
    """What dataset.json says: name, class_names, mean, std, sha256 (file name -> sum), origin.

    And reader, where it is not the one of DATASETS.
    """
    path = Path(folder) / DESCRIPTION
    try:
        about = dict(json.loads(path.read_bytes()))
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"{folder} holds no downloaded dataset ({error}); run `dvc repro download`") from error
    missing = {"name", "class_names", "mean", "std", "sha256"} - about.keys()
    if missing or set(about["sha256"]) != set(FILES):
        raise DataError(f"{path} describes no dataset of ours; run `dvc repro --force download`")
    return about


def read_examples(folder: str | Path, files: Sequence[str], about: dict[str, Any]) -> Examples:
    """Read one file of images and one of labels, held to their SHA-256 sums."""
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


def read_idx(content: bytes) -> np.ndarray:
    """The array of an IDX file (the format of MNIST's home page) that is known to be whole; uint8 or int32."""
    kind, dimensions = content[2:4]
    shape = np.frombuffer(content, ">u4", dimensions, 4)
    return np.frombuffer(content, {8: "u1", 12: ">i4"}[kind], offset=4 + 4 * dimensions).reshape(shape)
