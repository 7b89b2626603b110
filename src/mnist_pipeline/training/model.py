"""A trained model on disk: time-stamped weights, and the model_info.json that names and describes them."""

import copy
import hashlib
import io
import json
import platform
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mnist_pipeline import files
from mnist_pipeline.console import PipelineError
from mnist_pipeline.training.model_info import ModelDescription, ModelInfo
from mnist_pipeline.training.network import DigitNetwork

INFO = "model_info.json"


class ModelError(PipelineError):
    """A model folder that is missing, incomplete or damaged; the message says which file and why."""


def save_model(folder: Path, network: DigitNetwork, description: ModelDescription) -> Path:
    """Replace a model folder as a whole by weights in fp32 and model_info.json; returns the path of the weights."""
    buffer = io.BytesIO()  # a path given to torch.save ends up in the file; equal weights should be equal bytes
    torch.save({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}, buffer)
    name = f"{datetime.fromisoformat(description['started']):%Y%m%d-%H%M%S}.pth"
    info: ModelInfo = {
        **description,
        "weights": name,
        "sha256": hashlib.sha256(buffer.getbuffer()).hexdigest(),
        "layers": layers(network, description["image_size"]),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy")}},
        "git_revision": git_revision(),
    }
    with files.replacing(folder) as unfinished:
        unfinished.mkdir()
        (unfinished / name).write_bytes(buffer.getbuffer())
        (unfinished / INFO).write_text(json.dumps(info, indent=2) + "\n")
    return folder / name


def load_model(folder: Path) -> tuple[DigitNetwork, ModelInfo]:
    """The network of a model folder, in evaluation mode on the CPU, and its model_info.json. Raises ModelError."""
    try:
        info: ModelInfo = json.loads((folder / INFO).read_text())
        weights = (folder / info["weights"]).read_bytes()
        expected, classes, normalisation = info["sha256"], len(info["class_names"]), info["normalisation"]
        size = info["image_size"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} holds no complete model ({error}); `dvc repro train` makes one") from error
    if (found := hashlib.sha256(weights).hexdigest()) != expected:
        raise ModelError(
            f"{folder / info['weights']} is damaged: its SHA-256 is {found}, model_info.json says {expected}"
        )
    try:
        network = DigitNetwork(classes, **normalisation, image_size=size)
        network.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
    except (RuntimeError, TypeError) as error:  # other layers, or other arguments
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{folder} holds the model of another version ({reason}); run `dvc repro --force train`"
        ) from error
    return network.eval(), info


def layers(network: DigitNetwork, size: int = 28) -> list[dict[str, Any]]:
    """The layer table for images of a size: name, type and output shape (channels first) of each named layer."""
    probe = copy.deepcopy(network).cpu().eval()
    rows: list[dict[str, Any]] = []

    def add_row(name: str, output: torch.Tensor) -> None:
        kind = "convolution" if name.startswith("conv") else "fully connected"
        rows.append({"name": name, "type": kind, "output": list(output.shape[1:])})

    for name, layer in probe.named_children():
        layer.register_forward_hook(lambda _layer, _inputs, output, name=name: add_row(name, output))
    with torch.inference_mode():
        probe(torch.zeros(1, len(network.mean), size, size, dtype=torch.uint8))
    return rows


def git_revision() -> str | None:
    """The commit of the working tree, with `+` behind it where files differ; None outside of git."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
