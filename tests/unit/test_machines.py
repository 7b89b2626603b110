"""Loading an archived model on machines unlike the one where it was archived."""

import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import small_model

from mnist_pipeline.data.dataset import Dataset
from mnist_pipeline.serving import loading
from mnist_pipeline.serving.archive import choose_references
from mnist_pipeline.serving.archived import OpenError, open_archive

SHAPE = 1, 28, 28


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_threads_follow_a_containers_quota(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert loading.count_cpus(tmp_path) == expected


def test_int8_answers_the_same_where_sums_are_exact(int8_archive: Path, digits: Dataset, tmp_path: Path) -> None:
    """A processor without VNNI adds in 16 bits unless it is told to be exact; with VNNI it is exact anyway."""
    folder, images = unpack(int8_archive, tmp_path), digits.validation.images[:64].numpy()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    exact = onnxruntime.InferenceSession(folder / "network.onnx", options, providers=["CPUExecutionProvider"])
    (expected,) = exact.run(["logits"], {"images": images})
    assert np.array_equal(loading.open_onnx(folder / "network.onnx")(images), expected)
    weights = [onnx.numpy_helper.to_array(each) for each in onnx.load(folder / "network.onnx").graph.initializer]
    largest = max(int(np.abs(each.astype(int)).max()) for each in weights if each.dtype == np.int8 and each.ndim > 1)
    assert 2 * 255 * largest < 2**15  # two products of an activation and a weight fit into 16 bits on every processor


def unpack(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    return folder


def test_the_references_are_the_least_sure_of_each_class() -> None:
    logits = torch.tensor([[3.0, 0], [1, 0], [2, 0], [0, 9], [8, 0]])
    labels = torch.tensor([0, 0, 0, 1, 0])
    assert choose_references(logits, labels).tolist() == [1, 2, 3]


def test_a_network_that_answers_otherwise_is_refused(int8_archive: Path, tmp_path: Path) -> None:
    folder = unpack(int8_archive, tmp_path)
    network = loading.load(folder).network
    reason = r"answers otherwise .* to \d+ of 20 images, by up to"
    with pytest.raises(RuntimeError, match=reason):
        loading.check_references(folder / loading.REFERENCES, lambda images: -network(images), SHAPE)
    with pytest.raises(RuntimeError, match="answers otherwise"):
        loading.check_references(folder / loading.REFERENCES, lambda images: np.nan * network(images), SHAPE)


def test_an_archive_of_another_format_is_refused(int8_archive: Path, tmp_path: Path) -> None:
    changes = {"model_info.json": lambda content: content.replace(b'"format": 2,', b'"format": 1,')}
    other = small_model.changed(int8_archive, tmp_path / "other.mar", changes)
    reason = r"its format is 1, and this version reads format 2.*dvc repro archive"
    with pytest.raises(OpenError, match=reason), open_archive(other):
        pass


def test_a_damaged_network_and_one_whose_sums_overflow_are_not_loaded(int8_archive: Path, tmp_path: Path) -> None:
    folder = unpack(small_model.saturated(int8_archive, tmp_path / "saturated.mar"), tmp_path)
    with pytest.raises(RuntimeError, match="the network answers otherwise than where it was archived"):
        loading.load(folder)
    with (folder / "network.onnx").open("r+b") as file:
        file.write(bytes(64))
    with pytest.raises(RuntimeError, match=r"network\.onnx is damaged: its SHA-256 is"):
        loading.load(folder)
