"""Training speed of the usual PyTorch loop and of this project, in turn, with the same network.

The baseline: torchvision's dataset with ToTensor and Normalize, a DataLoader, batch 33, Adam, fp32. This project: the
loop as `train` runs it, which at first trains on the middle of the images; `full_images` is the same loop on full
images throughout, the one to compare with the machine's matrix rate. Each turn is a process.

`executed_fraction_of_limit` is the part of that rate that is used, counted by the operations that are executed:
Winograd's convolutions need fewer than the network's definition asks for.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import ROOT, run_in_subprocess
from figures import publish
from torch.nn import functional as F

from mnist_pipeline.data.catalogue import DATASETS
from mnist_pipeline.data.dataset import FILES, Examples, load
from mnist_pipeline.training import loop, winograd
from mnist_pipeline.training.hyperparameters import Hyperparameters
from mnist_pipeline.training.network import DigitNetwork
from mnist_pipeline.training.runtime import best_device, configure, has_bfloat16

TURNS = 3
IMAGES = {"baseline": 660, "this_project": 5120, "full_images": 5120}
BATCH = 128


def measure_baseline(images: int) -> float:
    """Images per second of the usual loop."""
    from torchvision import datasets, transforms

    with tempfile.TemporaryDirectory() as name:
        raw = Path(name) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for file in FILES:
            (raw / file).symlink_to(ROOT / "data" / file)
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.1307, 0.3081)])
        loader = torch.utils.data.DataLoader(datasets.MNIST(name, transform=transform), batch_size=33, shuffle=True)
        network = DigitNetwork(mean=[0.0], std=[1 / 255])  # the transform has normalised already
        optimizer = torch.optim.Adam(network.parameters(), lr=0.000386)
        seen, start = -33 * 2, 0.0  # two steps to warm up
        for batch, labels in loader:
            if seen == 0:
                start = time.perf_counter()
            optimizer.zero_grad()
            F.cross_entropy(network(batch), labels).backward()
            optimizer.step()
            seen += 33
            if seen >= images:
                break
        return seen / (time.perf_counter() - start)


def measure_fit(images: int, crop: float) -> float:
    """Images per second of `fit`, by its own clock, with the share `crop` of the steps on cropped images.

    Cropped and full steps are timed separately, each without the first fifth, in which memory is allocated.
    """
    dataset = load(ROOT / "data", 5000, 0)
    few = Examples(dataset.train.images[:images], dataset.train.labels[:images])
    validation = Examples(dataset.validation.images[:1], dataset.validation.labels[:1])
    seconds = 0.0  # per image
    for part, cropped in ((crop, 1.0), (1 - crop, 0.0)):
        if part:
            hp = Hyperparameters(batch_size=BATCH, epochs=1.0, crop=cropped)
            network = DigitNetwork().to(best_device())
            # The last evaluation is left out: it includes the growth of the cropped network, once per training.
            _, first, *_, last, _ = loop.fit(network, few, validation, hp, evaluations=10)
            seconds += part * (last.seconds - first.seconds) / (last.images - first.images)
    return 1 / seconds


def count_flops() -> int:
    """Floating-point operations that a training step executes for an image, in its matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    network, images = DigitNetwork(), torch.zeros(BATCH, 1, 28, 28, dtype=torch.uint8)
    if best_device().type == "cpu":
        winograd.convert(network)
    with FlopCounterMode(display=False) as counter:
        network(images).sum().backward()
    return counter.get_total_flops() // BATCH


def measure_matrix_rate() -> float:
    """Floating-point operations per second of the fastest of several large matrix products, in the training's type."""
    device = best_device()
    kind = torch.bfloat16 if has_bfloat16(device) else torch.float32
    best = 0.0
    for m, k, n in ((2048, 2048, 2048), (4096, 4096, 4096), (6272, 4608, 512), (8192, 1024, 1024)):
        a, b = torch.randn(m, k, device=device).to(kind), torch.randn(k, n, device=device).to(kind)
        for _ in range(6):
            start = time.perf_counter()
            (a @ b).flatten()[0].item()
            best = max(best, 2 * m * k * n / (time.perf_counter() - start))
    return best


def measure(which: str) -> dict[str, Any]:
    """One measurement."""
    if which == "baseline":
        speed = measure_baseline(IMAGES[which])
    else:
        crop = DATASETS["MNIST"].hyperparameters["crop"] if which == "this_project" else 0.0
        speed = measure_fit(IMAGES[which], crop)
    return {"images_per_second": speed}


def main() -> None:
    rows: dict[str, list[dict[str, Any]]] = {which: [] for which in IMAGES}
    limits = []
    for _ in range(TURNS):
        limits.append(run_in_subprocess(__file__, "limit")["flops"])
        for which in IMAGES:
            rows[which].append(run_in_subprocess(__file__, which))
    speed = {which: statistics.median(row["images_per_second"] for row in turns) for which, turns in rows.items()}
    ratio = {
        which: statistics.median(
            row["images_per_second"] / baseline["images_per_second"]
            for row, baseline in zip(rows[which], rows["baseline"], strict=True)
        )
        for which in IMAGES
    }
    flops = count_flops()
    fraction = statistics.median(
        row["images_per_second"] * flops / limit for row, limit in zip(rows["full_images"], limits, strict=True)
    )
    content = {
        "speedup": ratio["this_project"],
        "executed_fraction_of_limit": fraction,
        "speedup_on_full_images": ratio["full_images"],
        "images_per_second": speed,
        "n": TURNS,
        "turns": rows,
    }
    publish("train", content)


if __name__ == "__main__":
    configure()
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "limit":
        print(json.dumps({"flops": measure_matrix_rate()}))
    else:
        print(json.dumps(measure(sys.argv[1])))
