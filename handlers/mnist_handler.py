"""What TorchServe runs: a picture in, the digit and its probability out. Decode, predict, encode.

A request is a picture, as the body or as the multipart field `data`, or JSON with many: {"images": ["<base64>", ...]}.
It imports what travels in the archive beside it, and the framework for its metrics alone.
"""

import base64
import binascii
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from preprocessing import READERS, NotAnImage, NothingToRead
from ts.metrics.metric_type_enum import MetricTypes

Digits: TypeAlias = NDArray[np.uint8]  # (N, 28, 28), ink 255 on paper 0
Logits: TypeAlias = NDArray[np.float32]  # (N, classes)
Network: TypeAlias = Callable[[Digits], Logits]
Answer: TypeAlias = dict[str, Any]
Reader: TypeAlias = Callable[[bytes], Digits]
Item: TypeAlias = Digits | Answer  # a digit to be read, or the error that stands in its place

CHUNK = 64  # images a step; more gain nothing and hold more memory
MOST_IMAGES = 256  # a request; more would make the requests behind it wait
PATCH = 5  # pixels a side of what an explanation wipes out: a little wider than a pen stroke
logger = logging.getLogger(__name__)


class MnistHandler:
    """TorchServe makes one a worker, calls `initialize` once and then `handle` with each batch."""

    def initialize(self, context: Any) -> None:
        """Load the network from the unpacked archive. Raises RuntimeError where a file is not what was archived."""
        folder = Path(context.system_properties["model_dir"])
        self.info: Answer = json.loads((folder / "model_info.json").read_text())
        self.reader = READERS[self.info["reader"]]
        self.network = open_network(folder, self.info, context.system_properties.get("gpu_id"))
        self.network(np.zeros((1, 28, 28), np.uint8))  # the first call is the slowest; no user shall wait for it
        cv2.setNumThreads(1)  # the network's threads need the CPUs more
        self.metrics = open_metrics(context.metrics)
        silence_all_but_metrics()
        self.records: SimpleQueue[tuple[str, float, list[str]]] = SimpleQueue()
        threading.Thread(target=self.write_metrics, daemon=True).start()

    def handle(self, rows: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch of requests: one body a request, status and content type set in the context."""
        start = time.perf_counter()
        if context.get_request_header(0, "describe") == "True":  # comes alone in its batch
            return [json.dumps(self.info).encode()]
        decoded = [decode(row, self.reader) for row in rows]
        predicted = self.predict([item for items, _ in decoded for item in items])
        bodies = []
        for i, (items, many) in enumerate(decoded):
            answers = [next(predicted) for _ in items]
            if context.get_request_header(i, "explain") == "True":
                answers = [self.explain(*pair) for pair in zip(items, answers, strict=True)]
            bodies.append(self.encode(answers, many, i, context))
        self.records.put(("mnist_batches_total", 1, [str(len(rows))]))
        seconds = time.perf_counter() - start
        for _ in rows:
            self.records.put(("mnist_latency_seconds", seconds, []))
        return bodies

    def write_metrics(self) -> None:
        """Print each metric's line, for the server to parse: in a thread of its own, so that no answer waits for it."""
        while True:
            name, value, labels = self.records.get()
            self.metrics[name].add_or_update(value, labels)

    def predict(self, items: list[Item]) -> Any:
        """Answers in the order of the items, an iterator; errors pass through."""
        digits = [item for item in items if not isinstance(item, dict)]
        answers = iter(answers_of(self.probabilities(np.stack(digits)), self.info) if digits else [])
        return (item if isinstance(item, dict) else next(answers) for item in items)

    def probabilities(self, digits: Digits) -> Logits:
        """Calibrated probabilities (N, classes) of digits (N, 28, 28)."""
        chunks = [self.network(digits[i : i + CHUNK]) for i in range(0, len(digits), CHUNK)]
        scaled = np.concatenate(chunks) / self.info["temperature"]
        exponentials = np.exp(scaled - scaled.max(1, keepdims=True))
        return exponentials / exponentials.sum(1, keepdims=True)

    def explain(self, digit: Item, answer: Answer) -> Answer:
        """Add the 28x28 picture that the network saw, and how much each pixel's ink speaks for the answer.

        Occlusion (Zeiler and Fergus, arXiv 1311.2901): wipe the ink out around a pixel, and see how much the
        log-probability of the answer falls (natural logarithm; below 0: without that ink it would rise).
        """
        if isinstance(digit, dict):
            return answer
        wiped, touched = wipe(digit)  # (28 * 28, 28, 28), (28 * 28,)
        heat = np.zeros(digit.size)
        before = self.probabilities(digit[None])[0, answer["digit"]]
        after = self.probabilities(wiped[touched])[:, answer["digit"]]
        heat[touched] = np.log(before) - np.log(np.maximum(after, 1e-12))
        return answer | {"image": digit.tolist(), "heat": heat.reshape(digit.shape).round(4).tolist()}

    def encode(self, answers: list[Answer], many: bool, i: int, context: Any) -> bytes:
        """The i-th request's body; counts its errors."""
        for answer in answers:
            if "error" in answer:
                self.records.put(("mnist_errors_total", 1, [str(answer["status"])]))
        context.set_response_content_type(i, "application/json")
        if many:
            return json.dumps({"predictions": answers}).encode()
        context.set_response_status(answers[0].get("status", 200), idx=i)
        return json.dumps(answers[0]).encode()


def decode(row: dict[str, Any], reader: Reader) -> tuple[list[Item], bool]:
    """The digits of one request, errors in their places, and whether it was asked for many."""
    value = row.get("data", row.get("body", b""))
    try:
        if isinstance(value, dict | list) or bytes(value[:64]).lstrip()[:1] in (b"{", b"["):  # no picture begins so
            return [read(picture, reader) for picture in pictures_in(value)], True
    except ValueError as error:
        return [problem(400, error)], False
    return [read(bytes(value), reader)], False


def pictures_in(value: Any) -> list[str]:
    """The base64 strings of a JSON request. Raises ValueError where it has another shape."""
    try:
        content: Any = value if isinstance(value, dict | list) else json.loads(value)
        pictures = content["images"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f'not the JSON that is understood here, {{"images": ["<base64>", ...]}}: {error!r}') from None
    if not isinstance(pictures, list) or not 0 < len(pictures) <= MOST_IMAGES:
        raise ValueError(f'"images" must be a list of 1 to {MOST_IMAGES} base64 strings')
    return pictures


def read(picture: bytes | str, reader: Reader) -> Item:
    """The digit in one picture, bytes or base64, or what is wrong with it."""
    try:
        encoded = picture if isinstance(picture, bytes) else base64.b64decode(picture, validate=True)
        return reader(encoded)
    except (binascii.Error, TypeError, NotAnImage) as error:
        return problem(400, error)
    except NothingToRead as error:
        return problem(422, error)


def problem(status: int, error: Exception) -> Answer:
    return {"error": str(error), "status": status}


def answers_of(probabilities: Logits, info: Answer) -> list[Answer]:
    """One answer for each row of probabilities (N, classes)."""
    names, model = info["class_names"], info["weights"]
    rounded = probabilities.astype(float).round(6).tolist()  # float32 would be written with its rounding error
    return [
        {"digit": best, "label": names[best], "probability": row[best], "probabilities": row, "model": model}
        for best, row in zip(probabilities.argmax(1).tolist(), rounded, strict=True)
    ]


def wipe(digit: Digits) -> tuple[Digits, NDArray[np.bool_]]:
    """For each pixel, the digit without the ink around it, (784, 28, 28); and whether there was any, (784,)."""
    height, width = digit.shape
    copies = np.repeat(digit[None], digit.size, 0).reshape(height, width, height, width)
    for y, x in np.ndindex(height, width):
        top, left = max(y - PATCH // 2, 0), max(x - PATCH // 2, 0)
        copies[y, x, top : y + PATCH // 2 + 1, left : x + PATCH // 2 + 1] = 0
    flat = copies.reshape(-1, height, width)
    return flat, (flat != digit).any((1, 2))


def open_network(folder: Path, info: Answer, gpu: int | None) -> Network:
    """The fastest form that this machine can run: on a GPU the weights in bf16; else int8, where it was kept."""
    serving = info.get("serving", {})
    if gpu is None and "file" in serving:
        try:
            return open_int8(verified(folder / serving["file"], serving["sha256"]))
        except ImportError:
            logger.warning("onnxruntime is not installed: the weights serve in its place, slower")
    return open_weights(verified(folder / info["weights"], info["sha256"]), info, gpu)


def verified(file: Path, sha256: str) -> Path:
    """The file, if its SHA-256 is the one that model_info.json gives; RuntimeError if not."""
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != sha256:
        raise RuntimeError(f"{file.name} is damaged: its SHA-256 is {found}, model_info.json says {sha256}")
    return file


def open_int8(model: Path) -> Network:
    """ONNX Runtime on all CPUs that this process may use.

    Its threads spin between two layers, as they do by default: on two cores that gave a median of 3.1 ms in place of
    3.3 at 1 connection, and as many requests/s at 8 and 32.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpus()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda digits: session.run(["logits"], {"images": digits[:, None]})[0]


def open_weights(weights: Path, info: Answer, gpu: int | None) -> Network:
    """The trained weights themselves: bf16 on a GPU; fp32 on a CPU, where they answer as the evaluation did."""
    import torch
    from network import DigitNetwork

    torch.set_num_threads(cpus())
    device, dtype = ("cpu", torch.float32) if gpu is None else (f"cuda:{gpu}", torch.bfloat16)
    network = DigitNetwork(len(info["class_names"]), info["normalisation"]["mean"], info["normalisation"]["std"])
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.to(device, dtype, memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def logits(digits: Digits) -> Logits:
        return network(torch.from_numpy(digits[:, None]).to(device)).float().cpu().numpy()

    return logits


def cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_metrics(cache: Any) -> dict[str, Any]:
    """The metrics of metrics.yaml that the handler fills; under other settings they are made here, and not shown."""
    kinds = {
        "mnist_batches_total": (MetricTypes.COUNTER, "count", ["Size"]),
        "mnist_errors_total": (MetricTypes.COUNTER, "count", ["Status"]),
        "mnist_latency_seconds": (MetricTypes.HISTOGRAM, "s", []),
    }
    metrics = {}
    for name, (kind, unit, labels) in kinds.items():
        known = name in cache.cache.get(kind, {})
        metrics[name] = cache.get_metric(name, kind) if known else cache.add_metric_to_cache(name, unit, labels, kind)
    return metrics


def silence_all_but_metrics() -> None:
    """TorchServe's worker prints a line a batch, which the server parses; its metrics are lines as well: ours stay."""
    logging.getLogger().setLevel(logging.WARNING)
    metrics = logging.getLogger("ts.metrics.caching_metric")
    metrics.setLevel(logging.INFO)
    metrics.addFilter(lambda record: record.levelno > logging.INFO or "]mnist_" in record.getMessage())
