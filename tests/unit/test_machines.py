"""Loading an archived model on machines unlike the one where it was archived."""

import json
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

ARCHITECTURES = ["sm_75", "sm_80", "sm_90a", "compute_90"]


@pytest.mark.parametrize(
    ("gpu", "count", "architectures", "capability", "chosen", "reason"),
    [
        (None, 1, ARCHITECTURES, (9, 0), None, "the server gives no GPU"),
        (0, 0, [], (0, 0), None, "PyTorch sees 0 CUDA devices"),  # a build for the CPU, no GPU, or Apple's MPS
        (1, 1, ARCHITECTURES, (9, 0), None, "PyTorch sees 1 CUDA devices"),
        (0, 1, ARCHITECTURES, (6, 1), None, "its compute capability is 6.1, PyTorch has sm_75, sm_80, sm_90a"),
        (0, 1, ["sm_75", "sm_80"], (9, 0), None, "its compute capability is 9.0"),
        (0, 1, ARCHITECTURES, (8, 6), 0, ""),
        (1, 2, ARCHITECTURES, (9, 0), 1, ""),
        (0, 1, ARCHITECTURES, (12, 0), 0, ""),  # compiled for it when it is loaded
    ],
)
def test_a_gpu_serves_only_where_pytorch_can_compute_on_it(
    gpu: int | None,
    count: int,
    architectures: list[str],
    capability: tuple[int, int],
    chosen: int | None,
    reason: str,
) -> None:
    found, why = loading.choose_device(gpu, count, architectures, capability)
    assert found == chosen
    assert why.startswith(reason)
    assert bool(why) == (found is None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="wants a machine without a GPU")
def test_a_gpu_that_is_not_there_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    assert loading.find_gpu(None) is None
    assert caplog.messages == []
    assert loading.find_gpu(0) is None
    assert caplog.messages == ["The CPU serves, though TorchServe gives GPU 0: PyTorch sees 0 CUDA devices"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "9900000 100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
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
    assert np.array_equal(loading.open_onnx(folder / "network.onnx")(images[:, 0]), expected)
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


@pytest.mark.parametrize("name", ["int8_archive", "plain_archive"])
def test_both_forms_answer_as_where_they_were_archived(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = unpack(request.getfixturevalue(name), tmp_path)
    model = loading.load(folder)
    references = json.loads((folder / loading.REFERENCES).read_text())
    assert len(references["onnx"]) == len(references["weights"]) == 20

    def loaded_weights(digits: loading.Digits) -> np.ndarray:
        from mnist_pipeline.training.model import load_model
        from mnist_pipeline.training.runtime import autocast

        network, _ = load_model(folder)
        with torch.inference_mode(), autocast(torch.device("cpu")):
            return network(torch.from_numpy(digits[:, None])).float().numpy()

    loading.check_references(folder / loading.REFERENCES, loaded_weights, "weights")
    with pytest.raises(RuntimeError, match=r"answers otherwise .* to \d+ of \d+ images: class \d had a probability of"):
        loading.check_references(folder / loading.REFERENCES, lambda digits: -model.network(digits), "onnx")
    with pytest.raises(RuntimeError, match="answers otherwise"):
        loading.check_references(folder / loading.REFERENCES, lambda digits: np.nan * model.network(digits), "onnx")


def test_an_archive_without_references_is_an_old_one(int8_archive: Path, tmp_path: Path) -> None:
    folder = unpack(int8_archive, tmp_path)
    (folder / loading.REFERENCES).unlink()
    with pytest.raises(RuntimeError, match="archive the model again"):
        loading.load(folder)


def test_a_damaged_network_and_one_whose_sums_overflow_are_not_loaded(int8_archive: Path, tmp_path: Path) -> None:
    folder = unpack(small_model.saturated(int8_archive, tmp_path / "saturated.mar"), tmp_path)
    with pytest.raises(RuntimeError, match="the network answers otherwise than where it was archived"):
        loading.load(folder)
    with (folder / "network.onnx").open("r+b") as file:
        file.write(bytes(64))
    with pytest.raises(RuntimeError, match=r"network\.onnx is damaged: its SHA-256 is"):
        loading.load(folder)
