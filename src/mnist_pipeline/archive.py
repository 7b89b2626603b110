"""The .mar: everything that TorchServe needs to serve one model, as one file whose bytes depend on its inputs alone."""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Int64, UInt8
from torch import Tensor

from mnist_pipeline import model
from mnist_pipeline.errors import PipelineError
from mnist_pipeline.export import choose

MODEL_NAME = "mnist"
INT8_FILE = "network.int8.onnx"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold
MANIFEST = "MAR-INF/MANIFEST.json"
# What the handler imports of this package; it travels byte for byte.
SOURCES = tuple(Path(__file__).with_name(name) for name in ("network.py", "preprocessing.py"))


class ArchiveError(PipelineError):
    """torch-model-archiver refused; the message is its own."""


def archive(
    model_folder: Path,
    handler: Path,
    model_config: Path,
    destination: Path,
    *,
    calibration: UInt8[Tensor, "n 1 28 28"],
    validation_images: UInt8[Tensor, "m 1 28 28"],
    validation_labels: Int64[Tensor, " m"],
    maximal_drop: float = 0.0005,
) -> dict[str, Any]:
    """Pack one trained model for TorchServe. Equal inputs give equal bytes.

    Args:
        model_folder: holds model_info.json and the weights that it names.
        handler: the handler's Python file.
        model_config: TorchServe's settings for this model (model-config.yaml).
        destination: the .mar to write; it lands whole or not at all.
        calibration: training images, from which the int8 form takes its ranges.
        validation_images, validation_labels: these decide whether the int8 form is kept.
        maximal_drop: validation accuracy that the int8 form may lose, 0 to 1.

    Returns:
        the "serving" section of the archived model_info.json: the form that was taken, and why.

    Raises:
        ModelError: the model folder is incomplete or damaged.
        ArchiveError: torch-model-archiver failed; the message is its own.
    """
    network, info = model.load(model_folder)
    weights = model_folder / info["weights"]
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.stem}.") as name:
        folder = Path(name)
        int8 = folder / INT8_FILE
        serving = choose(network, calibration, validation_images, validation_labels, int8, maximal_drop)
        described = folder / model.INFO
        described.write_text(json.dumps(info | {"serving": serving}, indent=2) + "\n")
        extras = [described, *SOURCES, *([int8] if int8.exists() else [])]
        packed = pack(folder, version_of(weights), weights, handler, model_config, extras)
        whole = folder / "reproducible.mar"
        rewrite(packed, whole)
        whole.replace(destination)
    return serving


def version_of(weights: Path) -> str:
    """TorchServe's name for the version, from the weights' time stamp: 20260131-235959.pth is 20260131.235959."""
    return weights.stem.replace("-", ".")


def pack(
    folder: Path, version: str, weights: Path, handler: Path, model_config: Path | None, extras: Sequence[Path]
) -> Path:
    """Run torch-model-archiver; its archive's path. It clears $TMPDIR/<model name>, so it gets a TMPDIR of its own."""
    scratch, packed = folder / "scratch", folder / "packed"
    scratch.mkdir()
    packed.mkdir()
    files = {"--serialized-file": weights, "--handler": handler, "--config-file": model_config}
    arguments = [part for option, file in files.items() if file for part in (option, str(file))]
    arguments += ["--model-name", MODEL_NAME, "--version", version, "--extra-files", ",".join(map(str, extras))]
    arguments += ["--archive-format", "zip-store", "--export-path", str(packed)]
    result = subprocess.run(
        [sys.executable, "-m", "model_archiver.model_packaging", *arguments],
        env=os.environ | {"TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise ArchiveError(f"torch-model-archiver could not pack {weights}:\n{result.stdout}{result.stderr}")
    return packed / f"{MODEL_NAME}.mar"


def rewrite(source: Path, target: Path) -> None:
    """Copy a zip with sorted entries and fixed dates; stored: weights do not shrink, and the server starts sooner."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in sorted(old.namelist()):
            content = old.read(name)
            if name == MANIFEST:
                content = without_date(content)
            entry = zipfile.ZipInfo(name, date_time=EPOCH)
            entry.external_attr = 0o644 << 16
            new.writestr(entry, content)


def without_date(manifest: bytes) -> bytes:
    """TorchServe warns about a manifest without a creation date, so it is a fixed one."""
    content = json.loads(manifest)
    content["createdOn"] = "01/01/1980 00:00:00"
    return json.dumps(content, indent=2, sort_keys=True).encode()
