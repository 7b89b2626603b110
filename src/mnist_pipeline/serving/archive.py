"""The .mar: everything that a server needs to serve one model, as one file whose bytes depend on its inputs alone."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from mnist_pipeline import files
from mnist_pipeline.console import PipelineError
from mnist_pipeline.data.dataset import Examples
from mnist_pipeline.serving.export import compute_logits, export_for_serving
from mnist_pipeline.serving.known import draw_unseen_outliers, fit_known, knows_others
from mnist_pipeline.serving.loading import FORMAT, REFERENCES
from mnist_pipeline.serving.torchserve import MODEL
from mnist_pipeline.training import model
from mnist_pipeline.training.model_info import ServingInfo

PACKAGE = "mnist_model"  # the folder of an archive that holds its code
ONNX_FILE = "network.onnx"
REFERENCES_PER_CLASS = 2
MANIFEST = "MAR-INF/MANIFEST.json"
# The code that travels, byte for byte, from src/mnist_pipeline to the folder PACKAGE of the archive. It imports by
# relative names, so an installed mnist_pipeline of another version cannot take its place.
SOURCE = Path(__file__).parents[1]
TRAVELLING = (
    SOURCE / "centring.py",
    *sorted((SOURCE / "reading").glob("*.py")),
    SOURCE / "serving/__init__.py",
    SOURCE / "serving/answer.py",
    SOURCE / "serving/loading.py",
    SOURCE / "serving/recognition.py",
    SOURCE / "serving/requests.py",
    SOURCE / "serving/steps.py",
)


class ArchiveError(PipelineError):
    """A model cannot be archived with these settings, or torch-model-archiver failed; the message says why."""


def archive(
    model_folder: Path,
    handlers: Path,
    destination: Path,
    *,
    calibration: UInt8[Tensor, "n channels side side"],
    validation: Examples,
    maximal_drop: float,
    least: float | None,
) -> ServingInfo:
    """Pack one trained model for the servers, with the handler and its settings. Equal inputs give equal bytes.

    `calibration` are training images. `maximal_drop` is the validation accuracy that int8 may lose, 0 to 1; `least` is
    as for `fit_known`. Returns the section "serving" of the archived model_info.json. Raises ModelError for the folder.
    """
    network, info = model.load_model(model_folder)
    if least is not None and not knows_others(info):
        raise ArchiveError(
            f"reading.least = {least:g}, but this model was not taught what is of no class: set it to null"
        )
    with tempfile.TemporaryDirectory() as name:
        staging = Path(name) / "staging"
        copy_code(staging / PACKAGE)
        onnx = staging / ONNX_FILE
        serving, logits = export_for_serving(
            network, calibration, validation.images, validation.labels, onnx, maximal_drop
        )
        archived: dict[str, Any] = {**info, "format": FORMAT, "serving": serving}
        if knows_others(info):
            outliers = draw_unseen_outliers(validation, info["class_names"])
            archived["known"] = fit_known(logits, compute_logits(onnx, outliers), info["temperature"], least)
        files.write_json(staging / model.INFO, archived)
        images = validation.images[choose_references(logits, validation.labels)]
        references = {
            "images": base64.b64encode(images.numpy().tobytes()).decode(),
            "probabilities": compute_logits(onnx, images).softmax(1).double().numpy().round(6).tolist(),
        }
        files.write_json(staging / REFERENCES, references)
        weights, handler = model_folder / info["weights"], handlers / "mnist_handler.py"
        packed = pack(Path(name), weights, handler, handlers / "model-config.yaml", staging)
        with files.replacing(destination) as unfinished:
            rewrite(packed, unfinished)
    return serving


def choose_references(logits: Float32[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> Int64[Tensor, " m"]:
    """Indices of the images that a server is checked with: of each class the least sure, which change first."""
    order = logits.softmax(1).amax(1).argsort(stable=True)
    by_class = [order[labels[order] == label] for label in range(logits.shape[1])]
    return torch.cat([least_sure_first[:REFERENCES_PER_CLASS] for least_sure_first in by_class])


def copy_code(package: Path) -> None:
    """Copy the code that travels."""
    for source in TRAVELLING:
        target = package / source.relative_to(SOURCE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    (package / "__init__.py").write_text('"""The code that reads pictures and answers, as it was when archived."""\n')


def pack(folder: Path, weights: Path, handler: Path, model_config: Path | None, extra_files: Path) -> Path:
    """Run torch-model-archiver, which packs the content of the folder `extra_files`; the path of its archive."""
    scratch, packed = folder / "scratch", folder / "packed"
    scratch.mkdir()
    packed.mkdir()
    version = weights.stem.replace("-", ".")  # 20260131-235959.pth is version 20260131.235959
    command = [sys.executable, "-m", "model_archiver.model_packaging", "--archive-format", "zip-store"]
    command += ["--model-name", MODEL, "--version", version, "--export-path", str(packed)]
    command += ["--serialized-file", str(weights), "--handler", str(handler), "--extra-files", str(extra_files)]
    command += ["--config-file", str(model_config)] if model_config else []
    environment = os.environ | {"TMPDIR": str(scratch)}  # of its own: the archiver clears $TMPDIR/<model name>
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ArchiveError(f"torch-model-archiver could not pack {weights}:\n{result.stdout}{result.stderr}")
    return packed / f"{MODEL}.mar"


def rewrite(source: Path, target: Path) -> None:
    """Copy a zip with sorted entries and fixed dates. Not compressed: weights do not shrink, servers start sooner."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in sorted(name for name in old.namelist() if not name.endswith("/")):
            content = old.read(name)
            if name == MANIFEST:  # TorchServe warns where it has no date
                manifest = json.loads(content) | {"createdOn": "01/01/1980 00:00:00"}
                content = json.dumps(manifest, indent=2, sort_keys=True).encode()
            entry = zipfile.ZipInfo(name)  # its date is the earliest that a zip can hold
            entry.external_attr = 0o644 << 16
            new.writestr(entry, content)
