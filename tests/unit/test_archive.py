"""The archive: what is in it, that it can be made again byte for byte, and that its code runs alone."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from helpers import small_model

from mnist_pipeline.data.dataset import Dataset
from mnist_pipeline.serving import archive
from mnist_pipeline.serving.archived import OpenError, open_archive
from mnist_pipeline.training.inference import predict
from mnist_pipeline.training.network import DigitNetwork


def test_it_holds_the_code_byte_for_byte(int8_archive: Path, saved: Path) -> None:
    info = small_model.info_of(int8_archive)
    with zipfile.ZipFile(int8_archive) as content:
        names = content.namelist()
        for source in archive.TRAVELLING:
            assert content.read(f"mnist_model/{source.relative_to(archive.SOURCE)}") == source.read_bytes()
        handler = small_model.HANDLERS / "mnist_handler.py"
        assert content.read(handler.name) == handler.read_bytes()
        assert content.read(info["weights"]) == (saved / info["weights"]).read_bytes()
    assert {"MAR-INF/MANIFEST.json", "model-config.yaml", "references.json"} <= set(names)


def test_the_code_that_travels_imports_nothing_that_stays(int8_archive: Path, tmp_path: Path) -> None:
    """In a folder of its own, with an import path that does not have this project; and nothing of torch on a CPU."""
    with zipfile.ZipFile(int8_archive) as content:
        content.extractall(tmp_path)
    answers = """
import pathlib, sys
from mnist_model.serving import loading
(response,) = loading.load(pathlib.Path(".")).answer([pathlib.Path(sys.argv[1]).read_bytes()])
print(response.body.decode())
assert "torch" not in sys.modules and not [name for name in sys.modules if name.startswith("mnist_pipeline")]
"""
    picture = small_model.HANDLERS / "digits/7.png"
    done = subprocess.run([sys.executable, "-c", answers, picture], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == "7"


@pytest.mark.parametrize(("name", "tolerance"), [("int8_archive", 0.1), ("plain_archive", 1e-3)])
def test_it_answers_as_the_weights_do(
    name: str, tolerance: float, trained: DigitNetwork, digits: Dataset, request: pytest.FixtureRequest
) -> None:
    images = digits.validation.images[:20]
    with open_archive(request.getfixturevalue(name)) as (served, folder):
        logits = torch.from_numpy(served.logits(images.numpy()))
        assert (folder / served.info["weights"]).exists()
    assert (logits.softmax(1) - predict(trained, images, fp32=True).softmax(1)).abs().max() < tolerance
    assert not folder.exists()
    assert "mnist_model" not in sys.modules


def test_an_archive_that_cannot_be_opened_is_named(int8_archive: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.mar").write_bytes(int8_archive.read_bytes()[:-1000])
    damaged = small_model.changed(int8_archive, tmp_path / "damaged.mar", {"network.onnx": lambda content: content[1:]})
    for path in (tmp_path / "missing.mar", tmp_path / "torn.mar", damaged):
        with pytest.raises(OpenError, match=f"{path.name} cannot be opened .*dvc repro archive"), open_archive(path):
            pass


def test_equal_inputs_give_equal_bytes(int8_archive: Path, saved: Path, digits: Dataset, tmp_path: Path) -> None:
    moved = shutil.copytree(saved, tmp_path / "elsewhere" / "saved_models", copy_function=shutil.copy)
    again = small_model.pack(tmp_path, moved, digits, maximal_drop=1.0)
    assert again.read_bytes() == int8_archive.read_bytes()


def test_a_missing_handler_leaves_the_old_archive(
    saved: Path, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist.mar").write_bytes(b"old")
    monkeypatch.setattr(small_model, "HANDLERS", tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"mnist_handler\.py"):
        small_model.pack(tmp_path, saved, digits, maximal_drop=1.0)
    assert (tmp_path / "mnist.mar").read_bytes() == b"old"
