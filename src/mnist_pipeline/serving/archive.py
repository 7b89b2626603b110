"""The .mar: everything that a server needs to serve one model, as one file whose bytes depend on its inputs alone."""

import base64
import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32, Int64, UInt8
from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_packaging_utils import ModelExportUtils
from torch import Tensor

from mnist_pipeline import files
from mnist_pipeline.console import PipelineError
from mnist_pipeline.data.dataset import Examples
from mnist_pipeline.serving.export import compute_logits, export_for_serving
from mnist_pipeline.serving.known import SEED, fit_known, knows_others
from mnist_pipeline.serving.loading import FORMAT, REFERENCES
from mnist_pipeline.serving.torchserve import MODEL
from mnist_pipeline.training import model
from mnist_pipeline.training.model_info import ServingInfo
from mnist_pipeline.training.outliers import choose_kinds, draw_outliers

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
    *(SOURCE / f"serving/{name}.py" for name in ("__init__", "answer", "loading", "recognition", "requests", "steps")),
)


class ArchiveError(PipelineError):
    """A model cannot be archived with these settings; the message says why."""


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
        folder = Path(name)
        for source in TRAVELLING:
            target = folder / PACKAGE / source.relative_to(SOURCE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        (folder / PACKAGE / "__init__.py").touch()
        weights, handler, settings = info["weights"], "mnist_handler.py", "model-config.yaml"
        for file in (model_folder / weights, handlers / handler, handlers / settings):
            shutil.copy(file, folder)
        version = Path(weights).stem.replace("-", ".")  # 20260131-235959.pth is version 20260131.235959
        config = ModelArchiverConfig(MODEL, handler, version, weights, config_file=settings)
        manifest = json.loads(ModelExportUtils.generate_manifest_json(config))
        manifest["createdOn"] = "01/01/1980 00:00:00"  # TorchServe warns where it has no date
        files.write_json(folder / MANIFEST, manifest)
        onnx = folder / ONNX_FILE
        serving, logits = export_for_serving(
            network, calibration, validation.images, validation.labels, onnx, maximal_drop
        )
        archived: dict[str, Any] = {**info, "format": FORMAT, "serving": serving}
        if knows_others(info):
            # As many as validation images, made of these, of the kinds that training uses.
            outliers = draw_outliers(len(logits), choose_kinds(info["class_names"]), validation, SEED)
            archived["known"] = fit_known(logits, compute_logits(onnx, outliers), info["temperature"], least)
        files.write_json(folder / model.INFO, archived)
        images = validation.images[choose_references(logits, validation.labels)]
        references = {
            "images": base64.b64encode(images.numpy().tobytes()).decode(),
            "probabilities": compute_logits(onnx, images).softmax(1).double().numpy().round(6).tolist(),
        }
        files.write_json(folder / REFERENCES, references)
        with files.replacing(destination) as unfinished:
            write_zip(folder, unfinished)
    return serving


def choose_references(logits: Float32[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> Int64[Tensor, " m"]:
    """Indices of the images that a server is checked with: of each class the least sure, which change first."""
    order = logits.softmax(1).amax(1).argsort(stable=True)
    by_class = [order[labels[order] == label] for label in range(logits.shape[1])]
    return torch.cat([least_sure_first[:REFERENCES_PER_CLASS] for least_sure_first in by_class])


def write_zip(folder: Path, target: Path) -> None:
    """Zip a folder, sorted and with fixed dates. Not compressed: weights do not shrink, servers start sooner."""
    with zipfile.ZipFile(target, "w") as archived:
        for name in sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()):
            entry = zipfile.ZipInfo(name)  # its date is the earliest that a zip can hold
            entry.external_attr = 0o644 << 16
            archived.writestr(entry, (folder / name).read_bytes())
