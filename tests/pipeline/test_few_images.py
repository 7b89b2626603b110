"""Every stage on a handful of your own images, with the repository's own sizes; only the training is shorter."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
import yaml
from helpers import REFERENCE, fastapi_server, small_model, small_pipeline, torchserve
from PIL import Image

from mnist_pipeline.data.dataset import load_test
from mnist_pipeline.evaluation.pictures import encode_png


def write_coloured(folder: Path, class_names: list[str], images: int) -> None:
    """Pictures whose classes differ in nothing but their colours."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(class_names):
        (folder / name).mkdir(parents=True)
        for number in range(images):
            pixels = rng.integers(0, 120, (30, 40, 3), np.uint8)
            pixels[5:25, 5:35, k] += 130
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def set_parameters(repository: Path) -> None:
    """The repository's own parameters, but for the dataset and the length of tuning and training."""
    params = yaml.safe_load((REFERENCE / "params.yaml").read_text())
    params["data"] |= {"dataset": "folder", "source": "own"}
    params["tune"] |= {"trials": 1, "images_per_trial": 500}
    params["train"] |= {"epochs": 0.04}
    (repository / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.mark.slow
def test_every_stage_works_with_few_images(mnist: Path, tmp_path: Path) -> None:
    class_names, training_images, batch = ["$1", "猫"], 28, 16
    repository = small_pipeline.copy(mnist, tmp_path / "repository")
    write_coloured(repository / "own", class_names, 20)
    set_parameters(repository)
    said = {
        stage: small_pipeline.run(repository, sys.executable, "-m", f"stages.{stage}")
        for stage in small_pipeline.STAGES
    }
    assert f"{len(class_names)} classes (" in said["download"]
    assert "data.validation_images = 5000 is more than a fifth of" in said["train"]
    assert "The default values are taken: there is no other trial to compare them with." in said["tune"]
    assert "Number of failed trials:  0" in said["tune"]
    assert f"is too large for {training_images} training images: {batch} is used" in said["train"]
    assert f"epochs = 0.04 is too short for {training_images} training images" in said["train"]

    info = json.loads((repository / "saved_models/model_info.json").read_text())
    assert (info["class_names"], info["reader"]) == (class_names, "picture")
    assert (info["image_size"], info["colour"]) == (32, "rgb")
    assert info["dataset"]["training_images"] == training_images
    batch_size, epochs = info["hyperparameters"]["batch_size"], info["hyperparameters"]["epochs"]
    assert (batch_size["value"], batch_size["instead_of"]["source"]) == (batch, "tune")
    assert epochs == {
        "value": pytest.approx(200 / training_images),
        "source": "number of training images",
        "instead_of": {"value": 0.04, "source": "params.yaml"},
    }
    metrics = json.loads((repository / "results/evaluate/metrics.json").read_text())
    assert "accuracy_as_files" not in metrics
    assert 0 <= metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"] <= 1
    with Image.open(repository / "results/evaluate/plots/confusion.png") as picture:
        assert min(picture.size) > 300
    images_of_test = load_test(repository / "data").images
    expected = pandas.read_csv(repository / "results/evaluate/predictions.csv").iloc[:, 1:].to_numpy()
    assert_servers_answer(repository / "model_store/mnist.mar", images_of_test, expected)


def assert_servers_answer(archived: Path, images: torch.Tensor, expected: np.ndarray) -> None:
    """Both servers answer a coloured picture as the evaluation did."""
    for start in (
        lambda: fastapi_server.running(archived),
        lambda: torchserve.running(archived, small_model.HANDLERS),
    ):
        with start() as server:
            for image, probabilities in zip(images.numpy(), expected, strict=True):
                answer = server.service.predict(encode_png(image)).json()
                assert list(answer) == ["digit", "label", "probability", "probabilities", "model"]
                assert answer["probabilities"] == pytest.approx(probabilities.tolist(), abs=2e-6)
