"""Training speed: the plain PyTorch way and ours, in turn, with the same network; and how far ours is from the limit.

Plain is what the user had: torchvision's dataset with ToTensor and Normalize, a DataLoader, batch 33, Adam, fp32.
Ours is the loop as `train` runs it, which at first sees only the middle of the images (recipe.by_dataset); `whole` is
the same loop on whole images throughout: the one to hold to the machine's matrix rate. Each turn is a process.

Two fractions of that rate are given. `fraction_of_limit` counts the operations that the network's definition asks
for, whether or not ours do them (the model FLOPs utilisation of Chowdhery et al., arXiv 2204.02311, appendix B): it
may pass 1, because Winograd's convolutions take fewer. `executed_fraction_of_limit` counts what is really done.
"""

import json
import resource
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from common import ROOT, apart, machine, write
from torch.nn import functional as F

from mnist_pipeline import compute, data, recipe, training, winograd
from mnist_pipeline.checkpoint import Checkpoint
from mnist_pipeline.network import DigitNetwork

TURNS = 3
IMAGES = {"plain": 660, "ours": 5120, "whole": 5120}
BATCH = 128


def plain(images: int) -> float:
    """Images a second of the plain way."""
    from torchvision import datasets, transforms

    with tempfile.TemporaryDirectory() as name:
        raw = Path(name) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for file in data.FILES:
            (raw / file).symlink_to(ROOT / "data" / file)
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.1307, 0.3081)])
        loader = torch.utils.data.DataLoader(datasets.MNIST(name, transform=transform), batch_size=33, shuffle=True)
        network = DigitNetwork(mean=0.0, std=1 / 255)  # the transform has normalised already
        optimizer = torch.optim.Adam(network.parameters(), lr=0.000386)
        seen, begun = -33 * 2, 0.0  # two steps to warm up
        for batch, labels in loader:
            if seen == 0:
                begun = time.perf_counter()
            optimizer.zero_grad()
            F.cross_entropy(network(batch), labels).backward()
            optimizer.step()
            seen += 33
            if seen >= images:
                break
        return seen / (time.perf_counter() - begun)


def ours(images: int, crop: float) -> float:
    """Images a second of `fit`, by its own clock, with that part of the steps cropped.

    Cropped and whole steps are timed apart, each without the first fifth, in which memory is taken from the system.
    """
    dataset = data.load(ROOT / "data", 5000, 0)
    few = data.Examples(dataset.train.images[:images], dataset.train.labels[:images])
    validation = data.Examples(dataset.validation.images[:1], dataset.validation.labels[:1])
    seconds = 0.0  # an image
    for part, cropped in ((crop, 1.0), (1 - crop, 0.0)):
        if part:
            hp = training.Hyperparameters(batch_size=BATCH, epochs=1.0, crop=cropped)
            network = DigitNetwork().to(compute.best_device())
            # The last report is left out: it pays for the cropped network's growth, which comes once in a training.
            _, first, *_, last, _ = training.fit(network, few, validation, hp, reports=10)
            seconds += part * (last.seconds - first.seconds) / (last.images - first.images)
    return 1 / seconds


def flops_an_image(executed: bool) -> int:
    """Floating-point operations of a training step, an image: matrix products and convolutions, both ways.

    Those that the network's definition asks for, or those that `fit` does here.
    """
    from torch.utils.flop_counter import FlopCounterMode

    network, images = DigitNetwork(), torch.zeros(BATCH, 1, 28, 28, dtype=torch.uint8)
    counted = winograd.accelerated(network) if executed and compute.best_device().type == "cpu" else nullcontext()
    with FlopCounterMode(display=False) as counter, counted:
        network(images).sum().backward()
    return counter.get_total_flops() // BATCH


def matrix_rate() -> float:
    """Floating-point operations a second of the best of several large matrix products, in the type that trains."""
    compute.keep_freed_memory()  # a product that waits for the system's pages would flatter ours
    device = compute.best_device()
    kind = torch.bfloat16 if compute.has_bfloat16(device) else torch.float32
    best = 0.0
    for m, k, n in ((2048, 2048, 2048), (4096, 4096, 4096), (6272, 4608, 512), (8192, 1024, 1024)):
        a, b = torch.randn(m, k, device=device).to(kind), torch.randn(k, n, device=device).to(kind)
        for _ in range(6):
            begun = time.perf_counter()
            (a @ b).flatten()[0].item()
            best = max(best, 2 * m * k * n / (time.perf_counter() - begun))
    return best


def where_the_time_goes() -> dict[str, float]:
    """Share of a step's time on whole images in each kind of work, by PyTorch's profiler."""
    kinds = {
        "convolutions, linear layers": ("convolution", "addmm", "mkldnn_linear", "::mm", "::bmm", "linear"),
        "BatchNorm": ("batch_norm",),
        "optimizer": ("adam", "sgd", "rmsprop"),
        "conversion between fp32 and bf16, copies": ("copy_", "_to_copy", "contiguous", "clone"),
        "ReLU, pooling, sums": ("relu", "clamp", "threshold", "max_pool", "add", "sum"),
    }
    dataset = data.load(ROOT / "data", 5000, 0)
    few = data.Examples(dataset.train.images[: BATCH * 36], dataset.train.labels[: BATCH * 36])
    validation = data.Examples(few.images[:1], few.labels[:1])
    network = DigitNetwork().to(compute.best_device())
    hp = training.Hyperparameters(batch_size=BATCH, crop=0.0)
    # What the profiler itself keeps makes the next steps take memory from the system anew: two thirds of them warm up.
    profile = torch.profiler.profile(schedule=torch.profiler.schedule(wait=0, warmup=2, active=1, repeat=1))
    with profile:
        training.fit(network, few, validation, hp, reports=3, on_report=lambda report: profile.step())
    shares = dict.fromkeys([*kinds, "the rest"], 0.0)
    for event in profile.key_averages():
        name = event.key.lower()
        kind = next((kind for kind, parts in kinds.items() if any(part in name for part in parts)), "the rest")
        shares[kind] += 0 if "profilerstep" in name else event.self_cpu_time_total
    total = sum(shares.values())
    return {kind: spent / total for kind, spent in shares.items()}


def checkpoint_cost() -> float:
    """Share of the time that a checkpoint every ten seconds takes: the median of several."""
    network = DigitNetwork().to(compute.best_device())
    optimizer = training.make_optimizer(network, training.Hyperparameters())
    network(torch.zeros(2, 1, 28, 28, dtype=torch.uint8, device=compute.best_device())).sum().backward()
    optimizer.step()
    seconds = []
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        checkpoint = Checkpoint(Path(folder), "benchmark")
        for _ in range(9):
            begun = time.perf_counter()
            checkpoint.save(training.state_of(network, optimizer), {})
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds) / 10


def turn(which: str) -> dict[str, Any]:
    """One measurement."""
    if which == "plain":
        speed = plain(IMAGES[which])
    else:
        speed = ours(IMAGES[which], recipe.by_dataset("MNIST")["crop"] if which == "ours" else 0.0)
    return {"images_per_second": speed, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    rows: dict[str, list[dict[str, Any]]] = {which: [] for which in IMAGES}
    limits = []
    for _ in range(TURNS):
        limits.append(apart(__file__, "limit")["flops"])
        for which in IMAGES:
            rows[which].append(apart(__file__, which))
    speed = {which: statistics.median(row["images_per_second"] for row in turns) for which, turns in rows.items()}
    ratio = {
        which: statistics.median(
            mine["images_per_second"] / plain["images_per_second"]
            for mine, plain in zip(rows[which], rows["plain"], strict=True)
        )
        for which in IMAGES
    }
    flops, executed = flops_an_image(executed=False), flops_an_image(executed=True)
    fraction = statistics.median(
        row["images_per_second"] * flops / limit for row, limit in zip(rows["whole"], limits, strict=True)
    )
    shares = apart(__file__, "profile")
    saving = apart(__file__, "checkpoint")["cost"]
    content = {
        "speedup": ratio["ours"],
        "fraction_of_limit": fraction,
        "executed_fraction_of_limit": fraction * executed / flops,
        "speedup_on_whole_images": ratio["whole"],
        "images_per_second": speed,
        "flops_per_image": flops,
        "executed_flops_per_image": executed,
        "flops_per_second": speed["whole"] * flops,
        "matrix_rate": limits,
        "where_the_time_goes": shares,
        "checkpoint_cost": saving,
        "batch": {"plain": 33, "ours": BATCH},
        "n": TURNS,
        "turns": rows,
        "machine": machine(),
    }
    print(f"{'':24}{'plain':>10}{'ours':>10}{'whole':>10}   (median of {TURNS} turns)")
    print(f"{'images/s':24}" + "".join(f"{speed[which]:10.0f}" for which in IMAGES))
    peaks = {which: max(row["peak_mib"] for row in turns) for which, turns in rows.items()}
    print(f"{'peak memory, MiB':24}" + "".join(f"{peaks[which]:10.0f}" for which in IMAGES))
    print(f"{'ratio to plain':24}" + "".join(f"{ratio[which]:10.2f}" for which in IMAGES))
    print(f"\nMatrix products do {', '.join(f'{limit / 1e9:.0f}' for limit in limits)} GFLOP/s.")
    print(
        f"A whole image asks for {flops / 1e6:.0f} MFLOP: {speed['whole'] * flops / 1e9:.0f} GFLOP/s, {fraction:.0%} "
        f"of that rate. Winograd's convolutions leave {executed / 1e6:.0f}: {speed['whole'] * executed / 1e9:.0f} "
        f"GFLOP/s, {fraction * executed / flops:.0%}, are really done."
    )
    print("Where a step's time goes, on whole images:")
    for kind, share in shares.items():
        print(f"  {share:6.1%}  {kind}")
    print(f"Checkpoints, one in ten seconds, cost {saving:.2%} of the time beside that.")
    write("train", content)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "limit":
        print(json.dumps({"flops": matrix_rate()}))
    elif sys.argv[1] == "checkpoint":
        print(json.dumps({"cost": checkpoint_cost()}))
    elif sys.argv[1] == "profile":
        print(json.dumps(where_the_time_goes()))
    else:
        print(json.dumps(turn(sys.argv[1])))
