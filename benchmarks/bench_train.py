"""Training speed of the usual PyTorch loop and of this project, in turn, with the same network.

The baseline: torchvision's dataset with ToTensor and Normalize, a DataLoader, batch 33, Adam, fp32. This project: the
loop as `train` runs it, which at first trains on the middle of the images; `full_images` is the same loop on full
images throughout, the one to compare with the machine's matrix rate. Each turn is a process.

Two fractions of that rate are given. `fraction_of_limit` counts the operations that the network's definition asks
for (the model FLOPs utilisation of Chowdhery et al., arXiv 2204.02311, appendix B): it may exceed 1, because
Winograd's convolutions need fewer. `executed_fraction_of_limit` counts those that are executed.
"""

import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import ROOT, describe_machine, run_in_subprocess, write
from torch.nn import functional as F

from mnist_pipeline.data.catalogue import DATASETS
from mnist_pipeline.data.dataset import FILES, Examples, load
from mnist_pipeline.training import loop, winograd
from mnist_pipeline.training.checkpoint import Checkpoint
from mnist_pipeline.training.hyperparameters import Hyperparameters
from mnist_pipeline.training.network import DigitNetwork
from mnist_pipeline.training.runtime import best_device, configure, has_bfloat16
from mnist_pipeline.training.step import Learner

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


def count_flops(executed: bool) -> int:
    """Floating-point operations of a training step per image, forward and backward: those of matrix products.

    Args:
        executed: count those that `fit` executes here, not those that the network's definition asks for.
    """
    from torch.utils.flop_counter import FlopCounterMode

    network, images = DigitNetwork(), torch.zeros(BATCH, 1, 28, 28, dtype=torch.uint8)
    if executed and best_device().type == "cpu":
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


def profile_step() -> dict[str, float]:
    """Share of a step's time on full images in each kind of work, by PyTorch's profiler."""
    kinds = {
        "convolutions, linear layers": ("convolution", "addmm", "mkldnn_linear", "::mm", "::bmm", "linear"),
        "BatchNorm": ("batch_norm",),
        "optimizer": ("adam", "sgd", "rmsprop"),
        "conversion between fp32 and bf16, copies": ("copy_", "_to_copy", "contiguous", "clone"),
        "ReLU, pooling, sums": ("relu", "clamp", "threshold", "max_pool", "add", "sum"),
    }
    dataset = load(ROOT / "data", 5000, 0)
    few = Examples(dataset.train.images[: BATCH * 36], dataset.train.labels[: BATCH * 36])
    validation = Examples(few.images[:1], few.labels[:1])
    network = DigitNetwork().to(best_device())
    hp = Hyperparameters(batch_size=BATCH, crop=0.0)
    # What the profiler itself keeps makes the next steps allocate memory again: two thirds of them warm up.
    profile = torch.profiler.profile(schedule=torch.profiler.schedule(wait=0, warmup=2, active=1, repeat=1))
    with profile:
        loop.fit(network, few, validation, hp, evaluations=3, on_evaluation=lambda evaluation: profile.step())
    shares = dict.fromkeys([*kinds, "the rest"], 0.0)
    for event in profile.key_averages():
        name = event.key.lower()
        kind = next((kind for kind, parts in kinds.items() if any(part in name for part in parts)), "the rest")
        shares[kind] += 0 if "profilerstep" in name else event.self_cpu_time_total
    total = sum(shares.values())
    return {kind: spent / total for kind, spent in shares.items()}


def measure_checkpoint() -> float:
    """Share of the time that the default checkpoints take: the median of several."""
    learner = Learner(DigitNetwork().to(best_device()), Hyperparameters())
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8, device=best_device())
    learner.step(Examples(images, torch.zeros(2, dtype=torch.int64, device=best_device())), 1e-3)
    seconds = []
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        checkpoint = Checkpoint(Path(folder), "benchmark")
        for _ in range(9):
            start = time.perf_counter()
            checkpoint.save(learner.state_dict())
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) / checkpoint.seconds


def measure(which: str) -> dict[str, Any]:
    """One measurement."""
    if which == "baseline":
        speed = measure_baseline(IMAGES[which])
    else:
        crop = DATASETS["MNIST"].hyperparameters["crop"] if which == "this_project" else 0.0
        speed = measure_fit(IMAGES[which], crop)
    return {"images_per_second": speed, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


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
    flops, executed = count_flops(executed=False), count_flops(executed=True)
    fraction = statistics.median(
        row["images_per_second"] * flops / limit for row, limit in zip(rows["full_images"], limits, strict=True)
    )
    shares = run_in_subprocess(__file__, "profile")
    saving = run_in_subprocess(__file__, "checkpoint")["cost"]
    content = {
        "speedup": ratio["this_project"],
        "fraction_of_limit": fraction,
        "executed_fraction_of_limit": fraction * executed / flops,
        "speedup_on_full_images": ratio["full_images"],
        "images_per_second": speed,
        "flops_per_image": flops,
        "executed_flops_per_image": executed,
        "flops_per_second": speed["full_images"] * flops,
        "matrix_rate": limits,
        "where_the_time_goes": shares,
        "checkpoint_cost": saving,
        "batch": {"baseline": 33, "this_project": BATCH},
        "n": TURNS,
        "turns": rows,
        "machine": describe_machine(),
    }
    print(f"{'':24}{'baseline':>14}{'this project':>14}{'full images':>14}   (median of {TURNS} turns)")
    print(f"{'images/s':24}" + "".join(f"{speed[which]:14.0f}" for which in IMAGES))
    peaks = {which: max(row["peak_mib"] for row in turns) for which, turns in rows.items()}
    print(f"{'peak memory, MiB':24}" + "".join(f"{peaks[which]:14.0f}" for which in IMAGES))
    print(f"{'ratio to baseline':24}" + "".join(f"{ratio[which]:14.2f}" for which in IMAGES))
    print(f"\nMatrix products do {', '.join(f'{limit / 1e9:.0f}' for limit in limits)} GFLOP/s.")
    asked, done = speed["full_images"] * flops / 1e9, speed["full_images"] * executed / 1e9
    print(
        f"By definition a full image needs {flops / 1e6:.0f} MFLOP: {asked:.0f} GFLOP/s, {fraction:.0%} of that rate."
    )
    print(
        f"Winograd's convolutions need {executed / 1e6:.0f}: {done:.0f} GFLOP/s, {fraction * executed / flops:.0%}, "
        "are executed."
    )
    print("Where a step's time goes, on full images:")
    for kind, share in shares.items():
        print(f"  {share:6.1%}  {kind}")
    print(f"Checkpoints, one in 30 seconds, add {saving:.2%}.")
    write("train", content)


if __name__ == "__main__":
    configure()
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "limit":
        print(json.dumps({"flops": measure_matrix_rate()}))
    elif sys.argv[1] == "checkpoint":
        print(json.dumps({"cost": measure_checkpoint()}))
    elif sys.argv[1] == "profile":
        print(json.dumps(profile_step()))
    else:
        print(json.dumps(measure(sys.argv[1])))
