"""Datasets that torchvision's classes parse: small files in the published form, under their own checksums."""

import hashlib
import io
import pickle
import tarfile
import zipfile
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
COLOURED, LARGE = images_of(32), images_of(64)


def tar(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, each in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(each)
            archive.addfile(entry, io.BytesIO(each))
    return content.getvalue()


def cifar10() -> bytes:
    batch = pickle.dumps({"data": COLOURED.transpose(0, 3, 1, 2).reshape(COUNT, -1), "labels": LABELS.tolist()})
    files = dict.fromkeys((*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"), batch)
    files["batches.meta"] = pickle.dumps({"label_names": [f"name {k}" for k in range(10)]})
    return tar({f"cifar-10-batches-py/{name}": content for name, content in files.items()})


def svhn() -> bytes:
    content = io.BytesIO()
    scipy.io.savemat(content, {"X": COLOURED.transpose(1, 2, 3, 0), "y": np.where(LABELS == 0, 10, LABELS)[:, None]})
    return content.getvalue()


def eurosat() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in EUROSAT:
            for k in range(14):
                archive.writestr(f"2750/{name}/{k}.png", encoded(Image.fromarray(LARGE[k])))
    return content.getvalue()


CONTENTS = {"CIFAR10": cifar10, "SVHN": svhn, "EuroSAT": eurosat}


@pytest.fixture
def mirror(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a dataset's small files; the checksums are theirs."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    sums = {}
    for file in DATASETS[name].files:
        content = CONTENTS[name]()
        (folder / Path(file).name).write_bytes(content)
        sums[file] = hashlib.md5(content).hexdigest()
    monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], files=sums))
    monkeypatch.setattr(datasets.utils, "check_md5", lambda *_, **__: True)
    return folder


@pytest.mark.parametrize(
    ("name", "names", "counts"),
    [
        ("CIFAR10", tuple(f"name {k}" for k in range(10)), (200, 40)),
        ("SVHN", DIGITS, (40, 40)),
        ("EuroSAT", EUROSAT, (36, 6)),
    ],
)
def test_each_dataset_is_parsed_from_its_published_files(
    mirror: Path, name: str, names: tuple[str, ...], counts: tuple[int, int], tmp_path: Path
) -> None:
    assert download(name, tmp_path / "data", [str(mirror)]) == str(mirror)
    dataset, test = load(tmp_path / "data", 10, seed=0), load_test(tmp_path / "data")
    assert dataset.class_names == names
    assert test.images.shape[1:] == dataset.train.images.shape[1:] == (3, 32, 32)
    assert (len(dataset.train.labels) + len(dataset.validation.labels), len(test.labels)) == counts
    if name in ("CIFAR10", "SVHN"):
        assert test.labels.tolist() == LABELS.tolist()
        assert np.array_equal(test.images.numpy(), COLOURED.transpose(0, 3, 1, 2))
    if name == "EuroSAT":  # of each class the same pictures
        assert test.labels.bincount().tolist() == [2, 2, 2]
        stored = {image.tobytes() for image in torch.cat([dataset.train.images, dataset.validation.images]).numpy()}
        form = Form("picture", 32, "rgb")
        expected = {fit_picture(LARGE[k], form).tobytes() for k in range(14)}
        assert stored | {image.tobytes() for image in test.images.numpy()} == expected
