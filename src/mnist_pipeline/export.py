"""The form of the network that serves fastest on a CPU: int8, run by ONNX Runtime.

A GPU is served fastest by the weights themselves in bf16, so it needs no export.
"""

import hashlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

Images: TypeAlias = NDArray[np.uint8]  # (N, 1, 28, 28), 0 (paper) to 255 (ink)
Labels: TypeAlias = NDArray[np.int64]  # (N,)

OPSET = 17  # the newest that quantises here without a node that ONNX Runtime leaves unfused
BATCH = 64  # images a step while calibrating and judging


def export_int8(network: nn.Module, calibration: Images, target: Path) -> None:
    """Write the network as int8 ONNX: uint8 images (N, 1, 28, 28) in, fp32 logits (N, classes) out.

    BatchNorm is folded into the convolutions. Weights are quantised per output channel and activations statically,
    from the ranges seen on the calibration images (Jacob et al., arXiv 1712.05877). Equal inputs give equal bytes.

    Args:
        network: the trained network, in fp32.
        calibration: training images, at least one; 512 suffice for the ranges to settle.
        target: file to write; it lands whole or not at all.

    Raises:
        ValueError: no calibration images.
    """
    if not len(calibration):
        raise ValueError("calibration holds 0 images; the ranges of the activations need at least 1")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        plain, prepared, quantised = (Path(folder) / name for name in ("plain", "prepared", "quantised"))
        export_fp32(network, plain)
        with quiet():
            quant_pre_process(plain, prepared)
            quantize_static(
                prepared,
                quantised,
                CalibrationImages(calibration),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,  # unsigned times signed is what VNNI multiplies
                weight_type=QuantType.QInt8,
            )
        model = onnx.load(quantised)
        quantised.write_bytes(model.SerializeToString(deterministic=True))
        quantised.replace(target)


def export_fp32(network: nn.Module, target: Path) -> None:
    """Write the network as ONNX, as it is, for any batch size."""
    with warnings.catch_warnings():
        # The exporter through TorchScript is deprecated; its successor needs onnxscript, which nothing else here does.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network.eval(),
            (torch.zeros(2, 1, 28, 28, dtype=torch.uint8),),
            str(target),
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "n"}, "logits": {0: "n"}},
        )


def choose(
    network: nn.Module,
    calibration: Images,
    images: Images,
    labels: Labels,
    target: Path,
    maximal_drop: float = 0.0005,
) -> dict[str, Any]:
    """Export to int8, and keep that form only where it answers as well as the weights do.

    Args:
        network: the trained network, in fp32.
        calibration: training images.
        images, labels: validation images, which the decision rests on (never the test images).
        target: where the int8 form goes; removed again when it is not kept.
        maximal_drop: validation accuracy that int8 may lose, 0 to 1.

    Returns:
        what model_info.json says under "serving": the form that was taken, both accuracies, and why.
    """
    export_int8(network, calibration, target)
    plain, int8 = accuracy_of_weights(network, images, labels), accuracy_of_onnx(target, images, labels)
    kept = plain - int8 <= maximal_drop + 1e-9  # accuracies are counts over N; the rest is rounding
    lost = f"int8 loses {100 * (plain - int8):.2f} points of validation accuracy, {100 * maximal_drop:.2f} are allowed"
    decision: dict[str, Any] = {
        "form": "int8 ONNX Runtime" if kept else "weights",
        "reason": lost,
        "validation_accuracy": {"weights": plain, "int8": int8},
        "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }
    if kept:
        decision |= {"file": target.name, "sha256": hashlib.sha256(target.read_bytes()).hexdigest()}
    else:
        target.unlink()
    return decision


def accuracy_of_weights(network: nn.Module, images: Images, labels: Labels) -> float:
    """Share of images read right by the network in fp32, 0 to 1."""
    with torch.inference_mode():
        batches = [network.eval()(torch.from_numpy(batch)).argmax(1).numpy() for batch in split(images)]
    return float(np.mean(np.concatenate(batches) == labels))


def accuracy_of_onnx(model: Path, images: Images, labels: Labels) -> float:
    """Share of images read right by an ONNX file, 0 to 1."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    batches = [session.run(["logits"], {"images": batch})[0].argmax(1) for batch in split(images)]
    return float(np.mean(np.concatenate(batches) == labels))


def split(images: Images) -> list[Images]:
    """The images in batches of at most BATCH."""
    return [images[start : start + BATCH] for start in range(0, len(images), BATCH)]


class CalibrationImages(CalibrationDataReader):  # type: ignore[misc]  # the base class is untyped
    """Hands the calibration images to ONNX Runtime, a batch at a time."""

    def __init__(self, images: Images) -> None:
        self.batches: Iterator[Images] = iter(split(images))

    def get_next(self) -> dict[str, Images] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch}


class quiet:
    """ONNX Runtime's quantiser advises on the root logger what this module already does."""

    def __enter__(self) -> None:
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(logging.NOTSET)
