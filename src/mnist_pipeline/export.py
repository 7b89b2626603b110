"""The forms of the network that serve fastest on a CPU: int8, and fp32 where int8 is in doubt, run by ONNX Runtime.

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

INT8, FP32 = "network.int8.onnx", "network.fp32.onnx"
OPSET = 17
# What int8 speeds up. In int8 the small layers would save 5 % of the time, and stray twice as far from the weights.
HEAVY = ("conv3_1", "conv3_2", "fc1")
CALIBRATION_IMAGES = 2048  # of 512, ranges were narrower, and cut off more of what other images show
BATCH = 64  # images a step while calibrating and judging


def export_int8(network: nn.Module, calibration: UInt8[Tensor, "n 1 28 28"], target: Path) -> None:
    """Write the network as int8 ONNX: uint8 images (N, 1, 28, 28) in, fp32 logits (N, classes) out.

    BatchNorm is folded into the convolutions. Of the HEAVY layers, weights are quantised per output channel and
    activations statically, from the ranges seen on the calibration images (Jacob et al., arXiv 1712.05877). Equal
    inputs give equal bytes.

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
                nodes_to_exclude=light_nodes(prepared),
            )
        model = onnx.load(quantised)
        quantised.write_bytes(model.SerializeToString(deterministic=True))
        quantised.replace(target)


def light_nodes(model: Path) -> list[str]:
    """The names of the convolutions and matrix products outside the HEAVY layers; a node's begins with its layer's."""
    nodes = (node for node in onnx.load(model).graph.node if node.op_type in ("Conv", "Gemm"))
    return [node.name for node in nodes if node.name.split("/")[1] not in HEAVY]


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


def point_into(weights: Path, model: Path) -> None:
    """Let an ONNX file take fc1's weights, 100 of its 113 MB, from where they lie in the .pth beside it.

    torch.save writes a zip whose members are not compressed: a tensor is a range of the file's bytes.

    Raises:
        ValueError: the file does not hold fc1's weights as the network has them.
    """
    content = onnx.load(model)
    (fc1,) = (tensor for tensor in content.graph.initializer if tensor.name == "fc1.weight")
    whole = weights.read_bytes()
    offset = whole.find(fc1.raw_data)
    if offset < 0:
        raise ValueError(f"{weights} does not hold the weights of fc1")
    onnx.external_data_helper.set_external_data(fc1, weights.name, offset, len(fc1.raw_data))
    fc1.ClearField("raw_data")
    model.write_bytes(content.SerializeToString(deterministic=True))


def choose(
    network: nn.Module,
    weights: Path,
    calibration: UInt8[Tensor, "n 1 28 28"],
    images: UInt8[Tensor, "m 1 28 28"],
    labels: Int64[Tensor, " m"],
    folder: Path,
    *,
    temperature: float = 1.0,
    tolerance: float = 0.001,
    maximal_drop: float = 0.0005,
) -> dict[str, Any]:
    """Export to int8, find where that form answers as the weights do, and keep it only if the answers stay as right.

    int8 strays from the weights where the network is in doubt. So it answers alone where its probability is at least
    `sure`, the least from which on no validation image strayed by more than half the tolerance (the other half is for
    images that nobody has seen yet). What it is less sure of is answered by the weights, in fp32.

    Args:
        network: the trained network, in fp32.
        weights: the .pth that it was read from; FP32 must lie beside a file of this name and content.
        calibration: training images.
        images, labels: validation images, which the decision rests on (never the test images).
        folder: gets INT8 and FP32 where they are kept.
        temperature: what calibrates the logits.
        tolerance: how far a served probability may be from the weights' own, 0 to 1.
        maximal_drop: validation accuracy that the served answers may lose, 0 to 1; below 0 int8 is never kept.

    Returns:
        what model_info.json says under "serving": the form that was taken and why, the accuracies, and where int8 was
        kept `sure`, the share of the validation images that int8 answers alone, and the files with their SHA-256.
    """
    export_int8(network, calibration, folder / INT8)
    export_fp32(network, folder / FP32)
    point_into(weights, folder / FP32)
    answers = {"weights": logits_of_weights(network, images), "int8": logits_of_onnx(folder / INT8, images)}
    exact, int8 = ((logits / temperature).softmax(1) for logits in answers.values())
    sure = surety(exact, int8, tolerance / 2)
    alone = int8.amax(1) >= sure
    answers["served"] = torch.where(alone[:, None], answers["int8"], answers["weights"])
    accuracies = {name: accuracy(logits, labels) for name, logits in answers.items()}
    drop = accuracies["weights"] - accuracies["served"]
    kept = drop <= maximal_drop + 1e-9  # accuracies are counts over N; the rest is rounding
    lost = f"with int8 {100 * drop:.2f} points of validation accuracy are lost, {100 * maximal_drop:.2f} are allowed"
    decision: dict[str, Any] = {
        "form": "int8 ONNX Runtime" if kept else "weights",
        "reason": lost,
        "validation_accuracy": {name: round(value, 6) for name, value in accuracies.items()},
        "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }
    files = [folder / INT8, folder / FP32]
    if kept:
        decision |= {"sure": sure, "int8_share": round(alone.double().mean().item(), 4)}
        decision |= {"files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}}
    else:
        for file in files:
            file.unlink()
    return decision


def surety(exact: Float32[Tensor, "n classes"], int8: Float32[Tensor, "n classes"], tolerance: float) -> float:
    """The least probability of int8's first choice from which on no distribution strays by more than the tolerance."""
    strayed = (exact - int8).abs().amax(1) > tolerance
    doubtful = int8.amax(1)[strayed]
    return float(torch.nextafter(doubtful.max(), torch.tensor(2.0))) if len(doubtful) else 0.0


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
