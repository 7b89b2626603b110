"""What the benchmarks share: a description of the machine, and a process of its own for each measurement."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "torchvision", "numpy", "onnxruntime", "torchserve", "optuna")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, GPU, and the versions of the packages that matter to speed."""
    import torch

    from mnist_pipeline.training.runtime import best_device, has_bfloat16

    information = Path("/proc/cpuinfo")  # of Linux; platform knows no name there
    lines = information.read_text().splitlines() if information.exists() else []
    processor = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    return {
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "training_in": "bfloat16" if has_bfloat16(best_device()) else "fp32",
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def run_in_subprocess(script: str, *arguments: str) -> dict[str, Any]:
    """Run a part of a benchmark in a process of its own, and return the JSON that it prints last."""
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return dict(json.loads(done.stdout.splitlines()[-1]))
