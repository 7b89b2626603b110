"""Every stage on a handful of your own images, with the repository's own sizes; only the training is shorter."""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas
import pytest
import yaml
from helpers import REFERENCE, ROOT, fastapi_server, torchserve
from helpers.small_model import HANDLERS
from helpers.small_pipeline import STAGES, run
from PIL import Image

from mnist_pipeline.data.dataset import load_test
from mnist_pipeline.evaluation.pictures import encode_png

CLASS_NAMES = ["$1", "猫"]


def write_coloured(folder: Path) -> None:
    """Twenty pictures of each class, which differ in nothing but their colours."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(CLASS_NAMES):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 120, (30, 40, 3), np.uint8)
            pixels[5:25, 5:35, k] += 130
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.mark.slow
def test_every_stage_works_with_few_images(tmp_path: Path) -> None:
    write_coloured(tmp_path / "own")
    (tmp_path / "handlers").symlink_to(ROOT / "handlers")
    params = yaml.safe_load((REFERENCE / "params.yaml").read_text())
    params["data"] |= {"dataset": "folder", "source": "own"}
    params["tune"] |= {"trials": 1, "images_per_trial": 500}
    params["train"] |= {"epochs": 0.04}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    code = {"PYTHONPATH": str(ROOT)}
    said = {stage: run(tmp_path, sys.executable, "-m", f"stages.{stage}", environment=code) for stage in STAGES}
    assert "data.validation_images = 5000 is more than a fifth of" in said["train"]
    assert "The default values are taken: there is no other trial to compare them with." in said["tune"]
    assert "is too large for 28 training images: 16 is used" in said["train"]

    info = json.loads((tmp_path / "saved_models/model_info.json").read_text())
    assert (info["class_names"], info["reader"]) == (CLASS_NAMES, "picture")
    assert (info["image_size"], info["colour"]) == (32, "rgb")
    assert info["hyperparameters"]["epochs"] == {
        "value": pytest.approx(200 / 28),
        "source": "number of training images",
        "instead_of": {"value": 0.04, "source": "params.yaml"},
    }
    images = load_test(tmp_path / "data").images.numpy()
    expected = pandas.read_csv(tmp_path / "results/evaluate/predictions.csv").iloc[:, 1:].to_numpy()
    archived = tmp_path / "model_store/mnist.mar"
    for start in (partial(fastapi_server.running, archived), partial(torchserve.running, archived, HANDLERS)):
        with start() as server:
            answers = [server.service.predict(encode_png(image)).json() for image in images]
        assert list(answers[0]) == ["digit", "label", "probability", "probabilities", "model"]
        assert np.array([answer["probabilities"] for answer in answers]) == pytest.approx(expected, abs=2e-6)
