"""The network as ONNX, which is what is served: in int8 where that reads as well, in fp32 elsewhere."""

import copy
import hashlib
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from jaxtyping import Float32, Int64, UInt8
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from mnist_pipeline.serving.loading import open_onnx
from mnist_pipeline.training.inference import accuracy
from mnist_pipeline.training.model_info import ServingInfo
from mnist_pipeline.training.network import DigitNetwork

OPSET = 17
CALIBRATION_IMAGES = 512  # 2,048 gave the same validation accuracy
BATCH = 64  # images per forward pass


def export_for_serving(
    network: DigitNetwork,
    calibration: UInt8[Tensor, "n channels side side"],
    images: UInt8[Tensor, "m channels side side"],
    labels: Int64[Tensor, " m"],
    target: Path,
    maximal_drop: float,
) -> tuple[ServingInfo, Float32[Tensor, "m classes"]]:
    """Write the network as ONNX in int8; in fp32 where int8 loses more than `maximal_drop` (-1: always in fp32).

    `calibration` are training images; `images` and `labels` are validation images, which decide. Returns the section
    "serving" of model_info.json, and the calibrated logits of the validation images in that format.
    """
    with tempfile.TemporaryDirectory() as name:
        fp32, int8 = Path(name) / "fp32.onnx", Path(name) / "int8.onnx"
        export_fp32(network, images.shape[1:], fp32)
        quantise(fp32, calibration, int8)
        logits = {file.stem: compute_logits(file, images) for file in (fp32, int8)}
        accuracies = {name: accuracy(found, labels) for name, found in logits.items()}
        drop = accuracies["fp32"] - accuracies["int8"]
        chosen = int8 if drop <= maximal_drop + 1e-9 else fp32  # accuracies are counts over N; the rest is rounding
        content = chosen.read_bytes()
    target.write_bytes(content)
    serving: ServingInfo = {
        "format": chosen.stem,
        "file": target.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "reason": f"int8 loses {100 * drop:.2f} points of validation accuracy, {100 * maximal_drop:.2f} are allowed",
        "validation_accuracy": {name: round(value, 6) for name, value in accuracies.items()},
        "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }
    return serving, logits[chosen.stem]


def export_fp32(network: DigitNetwork, shape: torch.Size, target: Path) -> None:
    """Write the network as ONNX: uint8 images (N, C, S, S) in, calibrated fp32 logits (N, classes) out.

    BatchNorm and temperature are folded in; `network` stays as it is. `shape` is (C, S, S).
    """
    with warnings.catch_warnings():
        # The exporter through TorchScript is deprecated; its successor needs onnxscript, which nothing else here does.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # the network asks its input's size, which stays
        torch.onnx.export(
            fold_temperature(network),
            (torch.zeros(2, *shape, dtype=torch.uint8),),
            str(target),
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "n"}, "logits": {0: "n"}},
        )


def fold_temperature(network: DigitNetwork) -> DigitNetwork:
    """A copy in evaluation mode whose output layer has been divided by the temperature, which is 1 there."""
    folded = copy.deepcopy(network).eval()
    with torch.no_grad():
        for parameter in folded.output_layer.parameters():
            parameter.div_(folded.temperature)
        folded.temperature.fill_(1)
    return folded


def quantise(fp32: Path, calibration: UInt8[Tensor, "n channels side side"], target: Path) -> None:
    """Quantise the ONNX network of `export_fp32` to int8, with one training image or more; equal inputs, equal bytes.

    Weights are quantised per output channel and activations statically, from the ranges seen on the calibration images
    (Jacob et al., arXiv 1712.05877). The weights have seven bits: x86 processors without VNNI add two products in 16
    bits, where those of eight bits overflow and give other answers. The validation accuracy is the same.
    """
    prepared = target.with_suffix(".prepared")
    logging.disable(logging.WARNING)  # on the root logger the quantiser advises what is done here already
    try:
        quant_pre_process(fp32, prepared)
        quantize_static(
            prepared,
            target,
            CalibrationImages(calibration[:CALIBRATION_IMAGES]),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,  # unsigned times signed is what VNNI multiplies
            weight_type=QuantType.QInt8,
            reduce_range=True,
        )
    finally:
        logging.disable(logging.NOTSET)
    target.write_bytes(onnx.load(target).SerializeToString(deterministic=True))


def compute_logits(model: Path, images: UInt8[Tensor, "n channels side side"]) -> Float32[Tensor, "n classes"]:
    """The calibrated logits that an ONNX file gives on the CPU, as it will be served."""
    network = open_onnx(model)
    return torch.cat([torch.from_numpy(network(batch.numpy())) for batch in images.split(BATCH)])


class CalibrationImages(CalibrationDataReader):
    """The calibration images, a batch at a time, as ONNX Runtime asks for them."""

    def __init__(self, images: UInt8[Tensor, "n channels side side"]) -> None:
        self.batches = ({"images": batch.numpy()} for batch in images.split(BATCH))

    def get_next(self) -> dict[str, Any] | None:
        return next(self.batches, None)
