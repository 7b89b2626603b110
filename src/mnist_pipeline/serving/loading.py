"""An unpacked archive -> its model, on the machine that serves it.

Which device computes, how many threads, and whether the network answers here as it did where it was archived. This
file travels in the archive next to answer.py.
"""

import base64
import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .answer import Digits, Model, Network, softmax

REFERENCES = "references.json"  # images, and what the network answered to them where it was archived
FORMAT = 1  # of the archive: another number stands for files or a model_info.json that this code does not understand
TOLERANCE = 0.05  # of their probabilities; bf16 differs by 0.02, int8 whose sums overflow by 0.55


def load(folder: Path, gpu: int | None = None) -> Model:
    """Load the model of an unpacked archive: on a CPU its ONNX form, on a GPU its weights in bf16.

    Args:
        folder: holds model_info.json and the files that it names.
        gpu: the index of the CUDA device; None: the CPU.

    Raises:
        RuntimeError: the archive has another format, a file is not the one that was archived, or the network does not
            answer here as it did there.
    """
    info = json.loads((folder / "model_info.json").read_text())
    if info.get("format") != FORMAT:
        raise RuntimeError(f"its format is {info.get('format')}, and this version reads format {FORMAT}")
    if gpu is None:
        network = open_onnx(verify(folder / info["serving"]["file"], info["serving"]["sha256"]))
    else:
        network = open_weights(verify(folder / info["weights"], info["sha256"]), info, gpu)
    # The first call is the slowest; no user should wait for it.
    check_references(folder / REFERENCES, network, "onnx" if gpu is None else "weights")
    return Model(info, network)


def verify(file: Path, sha256: str) -> Path:
    """The file, if its SHA-256 is the one that model_info.json gives; RuntimeError if not."""
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != sha256:
        raise RuntimeError(f"{file.name} is damaged: its SHA-256 is {found}, model_info.json says {sha256}")
    return file


def open_onnx(file: Path, *, spinning: bool = True) -> Network:
    """The network in ONNX Runtime, with a thread for each CPU that this process may use.

    Args:
        file: the .onnx.
        spinning: whether the threads spin while they wait, ONNX Runtime's default: without, a lone request takes
            longer; but they then take the CPUs from other processes.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # builds since 1.29 report their use
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_cpus()
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
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


def count_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may run on, or as many as its container's quota allows, rounded up, if those are fewer."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # cgroup v2, v1
        with suppress(OSError, ValueError):  # the other version, or "max", which is no quota in v2; in v1 that is -1
            quota, period = map(int, " ".join((cgroup / name).read_text() for name in names).split())
            if quota > 0:
                cpus = min(cpus, math.ceil(quota / period))
    return cpus


def check_references(file: Path, network: Network, form: str) -> None:
    """Check that the network answers here as it did where it was archived.

    A processor or a GPU that computes otherwise would give other answers, and no error.

    Args:
        file: what `archive` wrote.
        network: the one to check.
        form: "onnx" or "weights", whose probabilities to compare with.

    Raises:
        RuntimeError: a probability differs by more than TOLERANCE.
    """
    references = json.loads(file.read_text())
    pixels = np.frombuffer(bytearray(base64.b64decode(references["images"])), np.uint8)  # PyTorch wants to write to it
    expected, found = np.array(references[form]), softmax(network(pixels.reshape(-1, 28, 28)))
    difference = np.abs(found - expected).max(1)
    wrong = np.flatnonzero(~(difference <= TOLERANCE))  # a probability that is not a number is wrong too
    if wrong.size:
        one = wrong[0]
        raise RuntimeError(
            f"the network answers otherwise than where it was archived to {wrong.size} of {len(expected)} images: "
            f"class {expected[one].argmax()} had a probability of {expected[one].max():.3f} in image {one}, and has "
            f"{found[one, expected[one].argmax()]:.3f} here; archive it again on a machine like this one"
        )


def find_gpu(gpu: int | None) -> int | None:
    """The GPU that the server gives if PyTorch can compute on it; else None, and a line in the log that says why.

    TorchServe counts the entries of CUDA_VISIBLE_DEVICES, -1 as well, or what nvidia-smi lists.
    """
    if gpu is None:
        return None
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    capability = torch.cuda.get_device_capability(gpu) if gpu < count else (0, 0)
    chosen, reason = choose_device(gpu, count, torch.cuda.get_arch_list(), capability)
    if chosen is None:
        logging.warning("The CPU serves, though TorchServe gives GPU %d: %s", gpu, reason)
    return chosen


def choose_device(
    gpu: int | None, count: int, architectures: Sequence[str], capability: tuple[int, int]
) -> tuple[int | None, str]:
    """Choose between the GPU that the server gives and the CPU.

    Args:
        gpu: its index; None: the server gives none.
        count: how many CUDA devices PyTorch sees; 0 where it is built for the CPU, and on Apple's GPUs (MPS).
        architectures: that PyTorch has kernels for, such as sm_90 or compute_90 (torch.cuda.get_arch_list).
        capability: major and minor version of that GPU (torch.cuda.get_device_capability).

    Returns:
        The GPU, or None for the CPU and why it is not the GPU.
    """
    if gpu is None:
        return None, "the server gives no GPU"
    if gpu >= count:
        return None, f"PyTorch sees {count} CUDA devices"
    for kind, number in re.findall(r"(sm|compute)_(\d+)", " ".join(architectures)):
        major, minor = divmod(int(number), 10)
        # Machine code runs on later minor versions of its major one, intermediate code on all later ones.
        if (major, minor) <= capability and (kind == "compute" or major == capability[0]):
            return gpu, ""
    return None, f"its compute capability is {capability[0]}.{capability[1]}, PyTorch has {', '.join(architectures)}"
