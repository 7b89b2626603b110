"""Datasets that torchvision's classes parse: small files in the published form, under their own checksums."""

import bz2
import hashlib
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from helpers.small_model import encoded
from PIL import Image
from torchvision import datasets

from mnist_pipeline.data.catalogue import DATASETS, DIGITS
from mnist_pipeline.data.dataset import load, load_test
from mnist_pipeline.reading import Form, fit_picture
from mnist_pipeline.sources.download import download

RNG = np.random.default_rng(0)
COUNT = 40
EUROSAT = ("AnnualCrop", "Forest", "River")


def images_of(side: int) -> np.ndarray:
    return RNG.integers(0, 256, (COUNT, side, side, 3), np.uint8)


LABELS = np.arange(COUNT) % 10
COLOURED, LARGE, SMALL = images_of(32), images_of(96), RNG.integers(0, 256, (COUNT, 16, 16), np.uint8)


def tar(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, each in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(each)
            archive.addfile(entry, io.BytesIO(each))
    return content.getvalue()


def cifar(folder: str, train: list[str], test: str, meta: str, key: str, names: str) -> bytes:
    batch = pickle.dumps({"data": COLOURED.transpose(0, 3, 1, 2).reshape(COUNT, -1), key: LABELS.tolist()})
    files = {f"{folder}/{name}": batch for name in (*train, test)}
    return tar(files | {f"{folder}/{meta}": pickle.dumps({names: [f"name {k}" for k in range(10)]})})


def mat() -> bytes:
    content = io.BytesIO()
    scipy.io.savemat(content, {"X": COLOURED.transpose(1, 2, 3, 0), "y": np.where(LABELS == 0, 10, LABELS)[:, None]})
    return content.getvalue()


def stl10() -> bytes:
    pixels, labels = LARGE.transpose(0, 3, 2, 1).tobytes(), (LABELS + 1).astype(np.uint8).tobytes()
    files = {f"{part}_{kind}.bin": each for part in ("train", "test") for kind, each in (("X", pixels), ("y", labels))}
    files |= {"unlabeled_X.bin": b"", "fold_indices.txt": b"", "class_names.txt": b"\n".join([b"a"] * 10)}
    return tar({f"stl10_binary/{name}": content for name, content in files.items()})


def usps() -> bytes:
    values = SMALL.reshape(COUNT, -1) / 255 * 2 - 1
    lines = [
        f"{label + 1} " + " ".join(f"{k + 1}:{value:.6f}" for k, value in enumerate(row))
        for label, row in zip(LABELS, values, strict=True)
    ]
    return bz2.compress("\n".join(lines).encode())


def eurosat() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in EUROSAT:
            for k in range(14):
                archive.writestr(f"2750/{name}/{k}.png", encoded(Image.fromarray(LARGE[k, :64, :64])))
    return content.getvalue()


FIVE = [f"data_batch_{k}" for k in range(1, 6)]
CONTENTS: dict[str, Callable[[str], bytes]] = {
    "CIFAR10": lambda _: cifar("cifar-10-batches-py", FIVE, "test_batch", "batches.meta", "labels", "label_names"),
    "CIFAR100": lambda _: cifar("cifar-100-python", ["train"], "test", "meta", "fine_labels", "fine_label_names"),
    "SVHN": lambda _: mat(),
    "STL10": lambda _: stl10(),
    "USPS": lambda _: usps(),
    "EuroSAT": lambda _: eurosat(),
}


@pytest.fixture
def mirror(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a dataset's small files; the checksums are theirs."""
    name, folder = request.param, tmp_path / "mirror"
    folder.mkdir()
    info = DATASETS[name]
    assert info.publication is not None
    sums = {}
    for file in info.publication.files:
        content = CONTENTS[name](file)
        (folder / Path(file).name).write_bytes(content)
        sums[file] = hashlib.md5(content).hexdigest()
    monkeypatch.setitem(DATASETS, name, replace(info, publication=replace(info.publication, files=sums)))
    monkeypatch.setattr(datasets.utils, "check_md5", lambda *_, **__: True)
    return folder


@pytest.mark.parametrize(
    ("mirror", "name", "shape", "names", "counts"),
    [
        ("CIFAR10", "CIFAR10", (3, 32, 32), tuple(f"name {k}" for k in range(10)), (200, 40)),
        ("CIFAR100", "CIFAR100", (3, 32, 32), tuple(f"name {k}" for k in range(10)), (40, 40)),
        ("SVHN", "SVHN", (3, 32, 32), DIGITS, (40, 40)),
        ("STL10", "STL10", (3, 32, 32), ("a",) * 10, (40, 40)),
        ("USPS", "USPS", (1, 16, 16), DIGITS, (40, 40)),
        ("EuroSAT", "EuroSAT", (3, 32, 32), EUROSAT, (36, 6)),
    ],
    indirect=["mirror"],
)
def test_each_dataset_is_parsed_from_its_published_files(
    mirror: Path, name: str, shape: tuple[int, ...], names: tuple[str, ...], counts: tuple[int, int], tmp_path: Path
) -> None:
    assert download(name, tmp_path / "data", [str(mirror)]) == str(mirror)
    dataset, test = load(tmp_path / "data", 10, seed=0), load_test(tmp_path / "data")
    assert dataset.class_names == names
    assert test.images.shape[1:] == dataset.train.images.shape[1:] == shape
    assert (len(dataset.train.labels) + len(dataset.validation.labels), len(test.labels)) == counts
    if name in ("CIFAR10", "CIFAR100", "SVHN"):
        assert test.labels.tolist() == LABELS.tolist()
        assert np.array_equal(test.images.numpy(), COLOURED.transpose(0, 3, 1, 2))
    if name == "EuroSAT":  # of each class the same pictures
        assert test.labels.bincount().tolist() == [2, 2, 2]
        stored = {image.tobytes() for image in torch.cat([dataset.train.images, dataset.validation.images]).numpy()}
        form = Form("picture", 32, "rgb")
        expected = {fit_picture(LARGE[k, :64, :64], form).tobytes() for k in range(14)}
        assert stored | {image.tobytes() for image in test.images.numpy()} == expected
    if name == "STL10":
        assert np.array_equal(test.images[0].numpy(), fit_picture(LARGE[0], Form("picture", 32, "rgb")))
        assert test.labels.tolist() == LABELS.tolist()
    if name == "USPS":
        assert np.abs(test.images[:, 0].numpy().astype(int) - SMALL).max() <= 1
