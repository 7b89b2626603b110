"""Every stage on a handful of your own images, with the repository's own sizes; only the training is shorter."""

import io
import json
import sys
import zipfile
from pathlib import Path

import onnxruntime
import pytest
import torch
import yaml
from helpers import ROOT, small_model, small_pipeline
from PIL import Image

from mnist_pipeline import data
from mnist_pipeline.network import DigitNetwork


def write_pictures(folder: Path, class_names: list[str], images: int, mnist: Path) -> None:
    """So many real digits of each class, as PNG files; the first class is zeros, whatever it is called."""
    digits = data.load(mnist, 5_000, 0).validation
    for digit, name in enumerate(class_names):
        (folder / name).mkdir(parents=True)
        for k, image in enumerate(digits.images[digits.labels == digit][:images, 0].numpy()):
            Image.fromarray(image).save(folder / name / f"{k}.png")


def set_parameters(repository: Path) -> None:
    """The repository's own parameters, but for the dataset and the length of tuning and training."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"] |= {"dataset": "folder", "source": "own"}
    params["tune"] |= {"trials": 1, "images_per_trial": 500}
    params["train"] |= {"epochs": 0.04}
    (repository / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("class_names", "images", "training_images", "batch", "reader"),
    [(["$1", "猫"], 20, 28, 16, "picture"), (list("0123456789"), 3, 10, 10, "handwriting")],
    ids=["two classes", "ten digits"],
)
def test_every_stage_works_with_few_images(
    class_names: list[str], images: int, training_images: int, batch: int, reader: str, mnist: Path, tmp_path: Path
) -> None:
    repository = small_pipeline.copy(mnist, tmp_path / "repository")
    write_pictures(repository / "own", class_names, images, mnist)
    set_parameters(repository)
    said = {
        stage: small_pipeline.run(repository, sys.executable, "-m", f"stages.{stage}")
        for stage in small_pipeline.STAGES
    }
    assert f"{len(class_names)} classes (" in said["download"]
    assert "data.validation_images = 5000 is more than a fifth of" in said["train"]
    assert f"a trial's batch is {batch} at most" in said["tune"]
    assert "tune.report_images = 2500 is more than the" in said["tune"]
    assert "failed" not in said["tune"]
    assert f"is too large for {training_images} training images: {batch} is used" in said["train"]
    assert f"epochs = 0.04 is too short for {training_images} training images" in said["train"]
    assert ("evaluate.photographs = 2000, but" in said["evaluate"]) == (reader == "handwriting")

    info = json.loads((repository / "saved_models/model_info.json").read_text())
    assert (info["class_names"], info["reader"]) == (class_names, reader)
    assert info["dataset"]["training_images"] == training_images
    batch_size, epochs = info["hyperparameters"]["batch_size"], info["hyperparameters"]["epochs"]
    assert (batch_size["value"], batch_size["instead_of"]["source"]) == (batch, "tune")
    assert epochs == {
        "value": pytest.approx(200 / training_images),
        "source": "number of training images",
        "instead_of": {"value": 0.04, "source": "params.yaml"},
    }
    metrics = json.loads((repository / "results/evaluate/metrics.json").read_text())
    assert 0 <= metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"] <= 1
    with Image.open(repository / "results/evaluate/plots/confusion.png") as picture:
        assert min(picture.size) > 300
    assert_archive_answers(repository / "model_store/mnist.mar", data.load_test(repository / "data").images)


def assert_archive_answers(archive: Path, images: torch.Tensor) -> None:
    """An archive holds weights that answer, and an int8 form, if it was kept, that answers much the same."""
    info = small_model.info_of(archive)
    network = DigitNetwork(len(info["class_names"]), **info["normalisation"])
    with zipfile.ZipFile(archive) as content:
        assert {"mnist_handler.py", "network.py", "preprocessing.py", info["weights"]} <= set(content.namelist())
        network.load_state_dict(torch.load(io.BytesIO(content.read(info["weights"])), weights_only=True))
        int8 = content.read(info["serving"]["file"]) if "file" in info["serving"] else None
    with torch.inference_mode():
        exact = network.eval()(images).softmax(1)
    assert torch.isfinite(exact).all()
    if int8:
        session = onnxruntime.InferenceSession(int8, providers=["CPUExecutionProvider"])
        served = torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0]).softmax(1)
        assert (served - exact).abs().mean() < 0.1
