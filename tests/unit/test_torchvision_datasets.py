"""Datasets that torchvision's classes parse: small files in the published form, under their own checksums."""

import gzip
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
from helpers.pen_digits import encode
from PIL import Image
from torchvision import datasets

from mnist_pipeline.data.catalogue import DATASETS, DIGITS, LETTERS
from mnist_pipeline.data.dataset import DataError, load, load_test
from mnist_pipeline.reading import Form, fit_picture
from mnist_pipeline.sources.download import download
from mnist_pipeline.sources.published import published_files

RNG = np.random.default_rng(0)
COUNT = 60
EUROSAT = ("AnnualCrop", "Forest", "River")


def images_of(side: int) -> np.ndarray:
    return RNG.integers(0, 256, (COUNT, side, side, 3), np.uint8)


LABELS, LETTER_LABELS = np.arange(COUNT) % 10, np.arange(COUNT) % 26
COLOURED, LARGE, GREY = images_of(32), images_of(64), images_of(28)[..., 0]


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
                archive.writestr(f"2750/{name}/{k}.png", encode(Image.fromarray(LARGE[k])))
    return content.getvalue()


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    """An IDX file, compressed; `kind` is 8 for bytes and 12 for integers of four bytes."""
    header = bytes((0, 0, kind, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.astype("u1" if kind == 8 else ">i4").tobytes())


def qmnist(part: str) -> dict[str, bytes]:
    """The class is the first of eight numbers of each image."""
    eight = np.concatenate((LABELS[:, None], np.arange(COUNT * 7).reshape(COUNT, 7)), 1)
    return {f"qmnist-{part}-images-idx3-ubyte.gz": idx(GREY), f"qmnist-{part}-labels-idx2-int.gz": idx(eight, 12)}


def emnist_letters() -> bytes:
    """The images lie on their side, and the classes count from 1."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for part in ("train", "test"):
            prefix = f"gzip/emnist-letters-{part}"
            archive.writestr(f"{prefix}-images-idx3-ubyte.gz", idx(GREY.transpose(0, 2, 1)))
            archive.writestr(f"{prefix}-labels-idx1-ubyte.gz", idx(LETTER_LABELS + 1))
    return content.getvalue()


CONTENTS: dict[str, Callable[[], dict[str, bytes]]] = {
    "CIFAR10": lambda: {"cifar-10-python.tar.gz": cifar10()},
    "SVHN": lambda: {name: svhn() for name in ("train_32x32.mat", "test_32x32.mat")},
    "EuroSAT": lambda: {"EuroSAT.zip": eurosat()},
    "QMNIST": lambda: qmnist("train") | qmnist("test"),
    "EMNIST-letters": lambda: {"gzip.zip": emnist_letters()},
}


@pytest.fixture
def mirror(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a dataset's small files; the checksums are theirs."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    contents = CONTENTS[name]()
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    sums = {path: hashlib.md5(contents[Path(path).name]).hexdigest() for path in published_files(name)}
    monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], files=sums))
    monkeypatch.setattr(datasets.utils, "check_md5", lambda *_, **__: True)
    return folder


@pytest.mark.parametrize(
    ("name", "names", "counts"),
    [
        ("CIFAR10", tuple(f"name {k}" for k in range(10)), (300, 60)),
        ("SVHN", DIGITS, (60, 60)),
        ("EuroSAT", EUROSAT, (36, 6)),
        ("QMNIST", DIGITS, (60, 60)),
        ("EMNIST-letters", LETTERS, (60, 60)),
    ],
)
def test_each_dataset_is_parsed_from_its_published_files(
    mirror: Path, name: str, names: tuple[str, ...], counts: tuple[int, int], tmp_path: Path
) -> None:
    assert download(name, tmp_path / "data", [str(mirror)]) == str(mirror)
    dataset, test = load(tmp_path / "data", 30, seed=0), load_test(tmp_path / "data")
    assert dataset.class_names == names
    assert (len(dataset.train.labels) + len(dataset.validation.labels), len(test.labels)) == counts
    if name != "EuroSAT":
        assert test.labels.tolist() == (LETTER_LABELS if name == "EMNIST-letters" else LABELS).tolist()
        pixels = COLOURED.transpose(0, 3, 1, 2) if name in ("CIFAR10", "SVHN") else GREY[:, None]
        assert np.array_equal(test.images.numpy(), pixels)
    else:  # of each class the same pictures
        assert test.labels.bincount().tolist() == [2, 2, 2]
        stored = {image.tobytes() for image in torch.cat([dataset.train.images, dataset.validation.images]).numpy()}
        form = Form("picture", 32, "rgb")
        expected = {fit_picture(LARGE[k], form).tobytes() for k in range(14)}
        assert stored | {image.tobytes() for image in test.images.numpy()} == expected


@pytest.mark.parametrize("name", ["QMNIST"])
def test_a_damaged_file_is_named_and_the_earlier_dataset_stays(mirror: Path, name: str, tmp_path: Path) -> None:
    download(name, tmp_path / "data", [str(mirror)])
    file = "qmnist-test-images-idx3-ubyte.gz"
    (mirror / file).write_bytes(gzip.compress(b"other"))
    with pytest.raises(DataError, match=f"{file} is corrupt: expected MD5 "):
        download(name, tmp_path / "data", [str(mirror)])
    assert load_test(tmp_path / "data").labels.tolist() == LABELS.tolist()
