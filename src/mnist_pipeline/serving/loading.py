"""An unpacked archive -> its model, which must answer here as it did where it was archived."""

import base64
import hashlib
import json
import math
import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from .answer import Model
from .recognition import softmax
from .steps import Network

REFERENCES = "references.json"  # images, and what the network answered to them where it was archived
FORMAT = 2  # of the archive: another number stands for files or a model_info.json that this code does not understand
TOLERANCE = 0.05  # of their probabilities; int8 whose sums overflow differs by 0.55


def load(folder: Path, *, beside_readers: bool = False) -> Model:
    """Load the model of an unpacked archive; `beside_readers` with a second network that does not spin.

    Raises RuntimeError for another format, a damaged file, or other answers than where it was archived.
    """
    info = json.loads((folder / "model_info.json").read_text())
    if info.get("format") != FORMAT:
        raise RuntimeError(f"its format is {info.get('format')}, and this version reads format {FORMAT}")
    file = folder / info["serving"]["file"]
    found, expected = hashlib.sha256(file.read_bytes()).hexdigest(), info["serving"]["sha256"]
    if found != expected:
        raise RuntimeError(f"{file.name} is damaged: its SHA-256 is {found}, model_info.json says {expected}")
    model = Model(info, open_onnx(file), open_onnx(file, spinning=False) if beside_readers else None)
    for network in {model.network, model.quiet_network}:  # often the same; the first call, the slowest, is no user's
        check_references(folder / REFERENCES, network, model.form.shape)
    return model


def open_onnx(file: Path, *, spinning: bool = True) -> Network:
    """The network in ONNX Runtime, with a thread for each CPU. Threads that spin answer sooner and take the CPUs."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # builds since 1.29 report their use
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_cpus()
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})[0]


def count_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may run on, or as many as its container's quota allows, rounded up, if those are fewer."""
    cpus = len(os.sched_getaffinity(0))
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # cgroup v2, v1
        with suppress(OSError, ValueError):  # the other version, or "max", which is no quota in v2; in v1 that is -1
            quota, period = map(int, " ".join((cgroup / name).read_text() for name in names).split())
            if quota > 0:
                cpus = min(cpus, math.ceil(quota / period))
    return cpus


def check_references(file: Path, network: Network, shape: tuple[int, int, int]) -> None:
    """Raise RuntimeError where a probability differs by more than TOLERANCE from that where it was archived."""
    references = json.loads(file.read_text())
    images = np.frombuffer(base64.b64decode(references["images"]), np.uint8).reshape(-1, *shape)
    expected, found = np.array(references["probabilities"]), softmax(network(images))
    difference = np.abs(found - expected).max(1)
    wrong = ~(difference <= TOLERANCE)  # a probability that is not a number is wrong too
    if wrong.any():
        raise RuntimeError(
            f"the network answers otherwise than where it was archived to {wrong.sum()} of {len(expected)} images, by "
            f"up to {difference.max():.3f} of a probability; archive it again on a machine like this one"
        )
