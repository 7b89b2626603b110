"""A model for the tests of export, archive and server: trained for seconds, so that it reads most digits."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from torch.nn import functional as F

from helpers import ROOT
from mnist_pipeline.data.dataset import Dataset, Examples
from mnist_pipeline.serving import archive
from mnist_pipeline.training import model
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


DESCRIPTION: Any = {
    "class_names": list("0123456789"),
    **FORM,
    "temperature": TEMPERATURE,
    "validation_accuracy": 0.9,
    "hyperparameters": {},
    "seed": 0,
    "dataset": {"name": "MNIST", "training_images": STEPS * BATCH, "validation_images": 1000, "sha256": {}},
    "device": "cpu",
    "training_seconds": 1.0,
    "started": "2026-01-01T00:00:00",
    "ended": "2026-01-01T00:00:00",
}


def train_and_save(folder: Path, digits: Dataset) -> None:
    """Leave a model folder as the train stage does."""
    model.save_model(folder / "saved_models", train(digits), DESCRIPTION)


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
