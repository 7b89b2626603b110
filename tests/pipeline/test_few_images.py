"""Every stage on a handful of your own images, with the repository's own sizes; only the training is shorter."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers import REFERENCE, small_pipeline
from PIL import Image

from mnist_pipeline.data.dataset import load, load_test
from mnist_pipeline.serving.archived import open_archive
from mnist_pipeline.training import model
from mnist_pipeline.training.inference import predict


def write_pictures(folder: Path, class_names: list[str], images: int, mnist: Path) -> None:
    """So many real digits of each class, as PNG files; the first class is zeros, whatever it is called."""
    digits = load(mnist, 5_000, 0).validation
    for digit, name in enumerate(class_names):
        (folder / name).mkdir(parents=True)
        for k, image in enumerate(digits.images[digits.labels == digit][:images, 0].numpy()):
            Image.fromarray(image).save(folder / name / f"{k}.png")


def set_parameters(repository: Path) -> None:
    """The repository's own parameters, but for the dataset and the length of tuning and training."""
    params = yaml.safe_load((REFERENCE / "params.yaml").read_text())
    params["data"] |= {"dataset": "folder", "source": "own"}
    params["tune"] |= {"trials": 1, "images_per_trial": 500}
    params["train"] |= {"epochs": 0.04}
    (repository / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("class_names", "images", "training_images", "batch", "reader"),
    [
        pytest.param(["$1", "猫"], 20, 28, 16, "picture", id="two classes"),
        pytest.param(list("0123456789"), 3, 10, 10, "handwriting", id="ten digits", marks=pytest.mark.extras),
    ],
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
    assert "tune.evaluation_images = 2500 is more than the" in said["tune"]
    assert "failed" not in said["tune"]
    assert f"is too large for {training_images} training images: {batch} is used" in said["train"]
    assert f"epochs = 0.04 is too short for {training_images} training images" in said["train"]

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
    assert ("accuracy_as_files" in metrics) == (reader == "handwriting")
    assert 0 <= metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"] <= 1
    with Image.open(repository / "results/evaluate/plots/confusion.png") as picture:
        assert min(picture.size) > 300
    assert_archive_answers(repository / "model_store/mnist.mar", load_test(repository / "data").images)


def assert_archive_answers(archived: Path, images: torch.Tensor) -> None:
    """An archive's served form answers, and much as its weights do."""
    with open_archive(archived) as (served, folder):
        network, _ = model.load_model(folder)
        expected = predict(network, images, fp32=True).softmax(1)
        answered = torch.from_numpy(served.logits(images[:, 0].numpy())).softmax(1)
    assert torch.isfinite(expected).all()
    assert (answered - expected).abs().mean() < 0.1
