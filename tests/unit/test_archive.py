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
from mnist_pipeline.serving.archived import open_archive
from mnist_pipeline.training.inference import predict
from mnist_pipeline.training.network import DigitNetwork


def test_the_code_that_travels_imports_nothing_that_stays(int8_archive: Path, tmp_path: Path) -> None:
    """In a folder of its own, with an import path that does not have this project."""
    with zipfile.ZipFile(int8_archive) as content:
        content.extractall(tmp_path)
    answers = """
import pathlib, sys
from mnist_model.serving import loading
(response,) = loading.load(pathlib.Path(".")).answer([pathlib.Path(sys.argv[1]).read_bytes()])
print(response.body.decode())
assert not {"mnist_pipeline", "torch", "scipy", "sklearn", "pydantic"} & set(sys.modules)  # of the server's packages
"""
    picture = small_model.HANDLERS / "digits/7.png"
    done = subprocess.run([sys.executable, "-c", answers, picture], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == "7"


@pytest.mark.parametrize(
    ("name", "form", "tolerance"), [("int8_archive", "int8", 0.1), ("plain_archive", "fp32", 1e-3)]
)
def test_it_answers_as_the_weights_do(
    name: str, form: str, tolerance: float, trained: DigitNetwork, digits: Dataset, request: pytest.FixtureRequest
) -> None:
    assert trained.temperature != 1  # which the export folds into the output layer
    images = digits.validation.images[:70]  # more than a batch
    with open_archive(request.getfixturevalue(name)) as (served, folder):
        logits = torch.from_numpy(served.logits(images.numpy()))
        assert served.info["serving"]["format"] == form
        assert (folder / served.info["weights"]).exists()
    assert (logits.softmax(1) - predict(trained, images, fp32=True).softmax(1)).abs().max() < tolerance
    assert not folder.exists()
    assert "mnist_model" not in sys.modules


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
