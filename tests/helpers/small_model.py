"""A model for the tests of export, archive and server: trained for seconds, so that it reads most digits."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from PIL import Image
from torch.nn import functional as F

from helpers import ROOT
from mnist_pipeline.data.dataset import Dataset, Examples
from mnist_pipeline.serving import archive
from mnist_pipeline.training import model
from mnist_pipeline.training.model_info import ModelDescription
from mnist_pipeline.training.network import DigitNetwork
from mnist_pipeline.training.runtime import autocast

HANDLERS = ROOT / "handlers"
STEPS, BATCH = 50, 32
TEMPERATURE = 0.9


def train(digits: Dataset) -> DigitNetwork:
    torch.manual_seed(0)
    network = DigitNetwork().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=STEPS)
    for step in range(STEPS):
        batch = slice(step * BATCH, (step + 1) * BATCH)
        with autocast(torch.device("cpu")):
            loss = F.cross_entropy(network(digits.train.images[batch]).float(), digits.train.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.temperature.fill_(TEMPERATURE)
    return network.eval()


FORM: Any = {
    "reader": "handwriting",
    "image_size": 28,
    "colour": "grey",
    "on_black": True,
    "normalisation": {"mean": [0.1307], "std": [0.3081]},
}


def describe(second: int = 0) -> ModelDescription:
    """What the train stage would say of a small model."""
    time = datetime(2026, 1, 1, 0, 0, second).isoformat()
    description = {
        "class_names": list("0123456789"),
        **FORM,
        "temperature": TEMPERATURE,
        "validation_accuracy": 0.9,
        "hyperparameters": {},
        "seed": 0,
        "dataset": {"name": "MNIST", "training_images": STEPS * BATCH, "validation_images": 1000, "sha256": {}},
        "device": "cpu",
        "training_seconds": 1.0,
        "started": time,
        "ended": time,
    }
    return cast(ModelDescription, description)


def save(folder: Path, network: DigitNetwork, second: int = 0) -> Path:
    """A model folder, as the train stage leaves it."""
    model.save_model(folder / "saved_models", network, describe(second))
    return folder / "saved_models"


def train_and_save(folder: Path, digits: Dataset) -> Path:
    """Train a network and save it in a model folder."""
    return save(folder, train(digits))


def pack(folder: Path, saved: Path, digits: Dataset, maximal_drop: float) -> Path:
    """Archive a model folder, as the archive stage does, on few validation images."""
    target = folder / "mnist.mar"
    archive.archive(
        saved,
        HANDLERS,
        target,
        calibration=digits.train.images,
        validation=Examples(digits.validation.images[:100], digits.validation.labels[:100]),
        maximal_drop=maximal_drop,
        least=None,
    )
    return target


def changed(source: Path, target: Path, changes: dict[str, Callable[[bytes], bytes]]) -> Path:
    """A copy of an archive with some of its files changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, changes.get(name, bytes)(old.read(name)))
    return target


def as_version(source: Path, target: Path, version: str) -> Path:
    """A copy of an archive under another version."""

    def rename(manifest: bytes) -> bytes:
        content = json.loads(manifest)
        content["model"]["modelVersion"] = version
        return json.dumps(content).encode()

    return changed(source, target, {archive.MANIFEST: rename})


def saturated(source: Path, target: Path) -> Path:
    """A copy of an int8 archive whose activations saturate, at half of what they reach; its checksum is right."""
    with zipfile.ZipFile(source) as content:
        network = onnx.load_model_from_string(content.read(archive.ONNX_FILE))
    for value in network.graph.initializer:
        if value.name.endswith("Relu_output_0_scale"):
            value.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(value) / 2, value.name))
    damaged = network.SerializeToString()
    old, new = info_of(source)["serving"]["sha256"], hashlib.sha256(damaged).hexdigest()
    changes = {archive.ONNX_FILE: lambda _: damaged, model.INFO: lambda info: info.replace(old.encode(), new.encode())}
    return changed(source, target, changes)


def info_of(archived: Path) -> dict[str, Any]:
    """An archive's model_info.json."""
    with zipfile.ZipFile(archived) as content:
        return dict(json.loads(content.read("model_info.json")))


def encoded(picture: Any, kind: str = "PNG", **options: Any) -> bytes:
    """A file of a PIL image, or of an array (h, w), (h, w, 3) or (h, w, 4)."""
    buffer = BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def probabilities(network: DigitNetwork, images: torch.Tensor) -> torch.Tensor:
    """Of images (N, 1, 28, 28), in fp32, one at a time, without a server: (N, 10)."""
    with torch.inference_mode():
        return torch.cat([network(image[None]).softmax(1) for image in images])
