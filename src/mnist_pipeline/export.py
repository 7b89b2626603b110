"""The form of the network that serves fastest on a CPU: int8, run by ONNX Runtime.

A GPU is served fastest by the weights themselves in bf16, so it needs no export.
"""

import hashlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from jaxtyping import Float32, Int64, UInt8
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from mnist_pipeline.compute import accuracy

OPSET = 17
CALIBRATION_IMAGES = 512  # 2,048 gave the same validation accuracy
BATCH = 64  # images a step while calibrating and judging


def export_int8(network: nn.Module, calibration: UInt8[Tensor, "n 1 28 28"], target: Path) -> None:
    """Write the network as int8 ONNX: uint8 images (N, 1, 28, 28) in, fp32 logits (N, classes) out.

    BatchNorm is folded into the convolutions. Weights are quantised per output channel and activations statically,
    from the ranges seen on the calibration images (Jacob et al., arXiv 1712.05877). Equal inputs give equal bytes.

    Args:
        network: the trained network, in fp32.
        calibration: training images, at least one; the first CALIBRATION_IMAGES of them are looked at.
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
                CalibrationImages(calibration[:CALIBRATION_IMAGES]),
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
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # the network asks its input's size; it is always 28
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
    calibration: UInt8[Tensor, "n 1 28 28"],
    images: UInt8[Tensor, "m 1 28 28"],
    labels: Int64[Tensor, " m"],
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
    plain = accuracy(logits_of_weights(network, images), labels)
    int8 = accuracy(logits_of_onnx(target, images), labels)
    kept = plain - int8 <= maximal_drop + 1e-9  # accuracies are counts over N; the rest is rounding
    lost = f"int8 loses {100 * (plain - int8):.2f} points of validation accuracy, {100 * maximal_drop:.2f} are allowed"
    decision: dict[str, Any] = {
        "form": "int8 ONNX Runtime" if kept else "weights",
        "reason": lost,
        "validation_accuracy": {"weights": round(plain, 6), "int8": round(int8, 6)},
        "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }
    if kept:
        decision |= {"file": target.name, "sha256": hashlib.sha256(target.read_bytes()).hexdigest()}
    else:
        target.unlink()
    return decision


def logits_of_weights(network: nn.Module, images: UInt8[Tensor, "n 1 28 28"]) -> Float32[Tensor, "n classes"]:
    """What the network answers in fp32, on its own device."""
    with torch.inference_mode():
        return torch.cat([network.eval()(batch) for batch in images.split(BATCH)])


def logits_of_onnx(model: Path, images: UInt8[Tensor, "n 1 28 28"]) -> Float32[Tensor, "n classes"]:
    """What an ONNX file answers on the CPU."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    batches = [session.run(["logits"], {"images": batch.numpy()})[0] for batch in images.split(BATCH)]
    return torch.cat([torch.from_numpy(batch) for batch in batches])


class CalibrationImages(CalibrationDataReader):
    """Hands the calibration images to ONNX Runtime, a batch at a time."""

    def __init__(self, images: UInt8[Tensor, "n 1 28 28"]) -> None:
        self.batches: Iterator[Tensor] = iter(images.split(BATCH))

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, or None behind the last."""
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch.numpy()}


@contextmanager
def quiet() -> Iterator[None]:
    """ONNX Runtime's quantiser advises on the root logger what this module already does."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
