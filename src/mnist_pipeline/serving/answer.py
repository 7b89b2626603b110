"""From what people send to what they get back, independent of any server: decode, predict, encode.

A request is a picture, or JSON with many: {"images": ["<base64>", ...]}. This file travels in the archive, together
with `reading` and the network, and imports nothing else of this project.
"""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..reading import READERS, NotAnImage, NothingToRead

Digits: TypeAlias = NDArray[np.uint8]  # (N, 28, 28), ink 255 on paper 0
Network: TypeAlias = Callable[[Digits], NDArray[np.float32]]  # digits -> calibrated logits (N, classes)
Body: TypeAlias = bytes | bytearray | dict[str, Any] | list[Any]  # the last two: JSON that a server has parsed already

BATCH = 64  # images per forward pass; a larger batch is not faster and takes more memory
MAX_IMAGES = 256  # per request; with more, the requests behind it would wait too long
PATCH = 5  # pixels a side of what an explanation covers: a little wider than a pen stroke


@dataclass(frozen=True)
class Rejected:
    """A picture that gets no prediction: the HTTP status that says so, and why."""

    status: int
    message: str


@dataclass(frozen=True)
class Request:
    """A decoded request: its digits, each (28, 28), or why there is none; and whether it is a list of pictures."""

    pictures: list[Digits | Rejected]
    is_list: bool = False


@dataclass(frozen=True)
class Response:
    """What a client gets: an HTTP status and JSON; and the status of each picture that was rejected."""

    status: int
    body: bytes
    rejected: list[int] = field(default_factory=list)


class Model:
    """The model of an unpacked archive.

    Args:
        info: the archive's model_info.json.
        network: gives the calibrated logits.
    """

    def __init__(self, info: dict[str, Any], network: Network) -> None:
        self.info, self.network = info, network
        self.read = READERS[info["reader"]]

    def answer(self, bodies: Sequence[Body], explain: Sequence[bool] = ()) -> list[Response]:
        """Answer the requests that are waiting in one batch.

        Args:
            bodies: one for each request.
            explain: which requests also want to know what each pixel contributes; empty: none.

        Returns:
            One response for each request, in their order.
        """
        requests = [decode(body, self.read) for body in bodies]
        digits = [picture for request in requests for picture in request.pictures if not isinstance(picture, Rejected)]
        predictions = self.predict(digits)
        responses, first = [], 0
        for request, wanted in zip(requests, explain or [False] * len(bodies), strict=True):
            count = sum(not isinstance(picture, Rejected) for picture in request.pictures)
            found = predictions[first : first + count]
            first += count
            responses.append(self.explain(request, found) if wanted else encode(request, found))
        return responses

    def predict(self, digits: Sequence[Digits]) -> list[dict[str, Any]]:
        """Digit, label, probability and all probabilities of each digit (28, 28)."""
        if not digits:
            return []
        probabilities = softmax(self.logits(np.stack(digits)))
        names, model = self.info["class_names"], self.info["weights"]
        rounded = probabilities.astype(float).round(6).tolist()  # as float32, JSON would show its rounding error
        return [
            {"digit": best, "label": names[best], "probability": row[best], "probabilities": row, "model": model}
            for best, row in zip(probabilities.argmax(1).tolist(), rounded, strict=True)
        ]

    def find_digit(self, picture: bytes) -> Digits | None:
        """The digit (28, 28) in a picture; None where nothing can be read."""
        digit = decode_picture(picture, self.read)
        return None if isinstance(digit, Rejected) else digit

    def logits(self, digits: Digits) -> NDArray[np.float32]:
        """Calibrated logits (N, classes) of digits (N, 28, 28), N of 1 or more."""
        return np.concatenate([self.network(digits[i : i + BATCH]) for i in range(0, len(digits), BATCH)])

    def explain(self, request: Request, predictions: list[dict[str, Any]]) -> Response:
        """Encode the prediction of one picture with the 28x28 image that the network saw and each pixel's attribution.

        Occlusion (Zeiler and Fergus, arXiv 1311.2901): remove the ink around a pixel, and see how much the
        log-probability of the prediction falls (natural logarithm; below 0: without that ink it would rise).
        """
        if request.is_list:
            return encode(Request([Rejected(400, "an explanation takes one picture, not a list")]), [])
        if not predictions:
            return encode(request, predictions)
        (digit,), (prediction,) = request.pictures, predictions
        assert not isinstance(digit, Rejected)
        copies, changed = occlude(digit)  # (28 * 28, 28, 28), (28 * 28,)
        attribution = np.zeros(digit.size)
        before = softmax(self.logits(digit[None]))[0, prediction["digit"]]
        after = softmax(self.logits(copies[changed]))[:, prediction["digit"]]
        attribution[changed] = np.log(before) - np.log(np.maximum(after, 1e-12))
        heat = attribution.reshape(digit.shape).round(4).tolist()
        return encode(request, [prediction | {"image": digit.tolist(), "attribution": heat}])


def decode(body: Body, read: Callable[[bytes], Digits]) -> Request:
    """The digits of a request; what is wrong with a picture stands in its place."""
    try:
        if isinstance(body, dict | list) or bytes(body[:64]).lstrip()[:1] in (b"{", b"["):  # no picture starts so
            return Request([decode_picture(picture, read) for picture in parse_json(body)], is_list=True)
    except ValueError as error:
        return Request([Rejected(400, str(error))])
    return Request([decode_picture(bytes(body), read)])


def parse_json(body: Body) -> list[Any]:
    """The base64 strings of a JSON request. Raises ValueError where it has another shape."""
    try:
        content: Any = body if isinstance(body, dict | list) else json.loads(body)
        pictures = content["images"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f'not the JSON that is understood here, {{"images": ["<base64>", ...]}}: {error!r}') from None
    if not isinstance(pictures, list) or not 0 < len(pictures) <= MAX_IMAGES:
        raise ValueError(f'"images" must be a list of 1 to {MAX_IMAGES} base64 strings')
    return pictures


def decode_picture(picture: Any, read: Callable[[bytes], Digits]) -> Digits | Rejected:
    """The digit (28, 28) in a picture, which is bytes or a base64 string; or why there is none."""
    try:
        return read(picture if isinstance(picture, bytes) else base64.b64decode(picture, validate=True))
    except NothingToRead as error:
        return Rejected(422, str(error))
    except (ValueError, TypeError, NotAnImage) as error:  # the first two: no base64
        return Rejected(400, str(error))


def encode(request: Request, predictions: Sequence[dict[str, Any]]) -> Response:
    """JSON for a request: the predictions in the order of its pictures, errors in their places."""
    remaining = list(predictions)
    answers: list[dict[str, Any]] = [
        {"error": picture.message, "status": picture.status} if isinstance(picture, Rejected) else remaining.pop(0)
        for picture in request.pictures
    ]
    rejected = [picture.status for picture in request.pictures if isinstance(picture, Rejected)]
    if request.is_list:
        return Response(200, json.dumps({"predictions": answers}).encode(), rejected)
    return Response(answers[0].get("status", 200), json.dumps(answers[0]).encode(), rejected)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities (N, classes) of logits (N, classes)."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def occlude(digit: Digits) -> tuple[Digits, NDArray[np.bool_]]:
    """Remove the ink around each pixel in turn.

    Args:
        digit: uint8 (28, 28).

    Returns:
        Copies (784, 28, 28): copy k has the 5x5 patch around pixel k set to 0. And which copies differ from the
        digit, (784,).
    """
    height, width = digit.shape
    copies = np.repeat(digit[None], digit.size, 0).reshape(height, width, height, width)
    for y, x in np.ndindex(height, width):
        top, left = max(y - PATCH // 2, 0), max(x - PATCH // 2, 0)
        copies[y, x, top : y + PATCH // 2 + 1, left : x + PATCH // 2 + 1] = 0
    flat = copies.reshape(-1, height, width)
    return flat, (flat != digit).any((1, 2))


def load(folder: Path, gpu: int | None = None) -> Model:
    """Load the model of an unpacked archive: on a CPU its ONNX form, on a GPU its weights in bf16.

    Args:
        folder: holds model_info.json and the files that it names.
        gpu: the index of the CUDA device; None: the CPU.

    Raises:
        RuntimeError: a file is not the one that was archived.
    """
    info = json.loads((folder / "model_info.json").read_text())
    if gpu is None:
        network = open_onnx(verify(folder / info["serving"]["file"], info["serving"]["sha256"]))
    else:
        network = open_weights(verify(folder / info["weights"], info["sha256"]), info, gpu)
    network(np.zeros((1, 28, 28), np.uint8))  # the first call is the slowest; no user should wait for it
    return Model(info, network)


def verify(file: Path, sha256: str) -> Path:
    """The file, if its SHA-256 is the one that model_info.json gives; RuntimeError if not."""
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != sha256:
        raise RuntimeError(f"{file.name} is damaged: its SHA-256 is {found}, model_info.json says {sha256}")
    return file


def open_onnx(file: Path) -> Network:
    """The network in ONNX Runtime, with a thread for each CPU that this process may use.

    The threads spin between two layers, which is ONNX Runtime's default: without, a lone request takes longer.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_cpus()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda digits: session.run(["logits"], {"images": digits[:, None]})[0]


def open_weights(file: Path, info: dict[str, Any], gpu: int) -> Network:
    """The trained weights in bf16 on a GPU."""
    import torch

    from ..training.network import DigitNetwork

    device = f"cuda:{gpu}"
    network = DigitNetwork(len(info["class_names"]), info["normalisation"]["mean"], info["normalisation"]["std"])
    network.load_state_dict(torch.load(file, weights_only=True))
    network.to(device, torch.bfloat16).to(memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def logits(digits: Digits) -> NDArray[np.float32]:
        return network(torch.from_numpy(digits[:, None]).to(device)).float().cpu().numpy()

    return logits


def count_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
