"""Where several processes pay: images a second of `fit` in one and in two, in turn, by batch.

On a CPU the processes share the cores, and every step sends all gradients, 113 MB on whole images, from one to the
other. On a machine with several GPUs each process has one; with a single GPU there is nothing to compare.
"""

import json
import os
import statistics
import sys

import torch
import torch.distributed as dist
from common import ROOT, apart, machine, write

from mnist_pipeline import compute, data, train_model, training
from mnist_pipeline.network import DigitNetwork

TURNS, STEPS = 3, 12
BATCHES = (64, 512)


def measure(batch: int) -> None:
    """Train for some steps, in as many processes as torchrun began, and print the speed of all but the first fourth."""
    train_model.join_processes()
    dataset = data.load(ROOT / "data", 5000, 0)
    few = data.Examples(dataset.train.images[: batch * STEPS], dataset.train.labels[: batch * STEPS])
    validation = data.Examples(dataset.validation.images[:1], dataset.validation.labels[:1])
    torch.manual_seed(0)
    network = DigitNetwork().to(compute.best_device())
    first, *_, last = training.fit(network, few, validation, training.Hyperparameters(batch_size=batch), reports=4)
    if not dist.is_initialized() or dist.get_rank() == 0:
        print(json.dumps({"images_per_second": (last.images - first.images) / (last.seconds - first.seconds)}))


def speed(processes: int, batch: int) -> float:
    """Images a second, by a torchrun of its own."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    # torchrun gives each of several processes one thread, where it is not told otherwise.
    os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // processes))
    return float(apart(*torchrun, __file__, str(batch))["images_per_second"])


def main() -> None:
    if torch.cuda.device_count() == 1:
        raise SystemExit("there is one GPU here: two processes want two, or none")
    rows = []
    print(f"{'batch':>8}{'one process':>14}{'two':>8}{'ratio':>8}   (images/s, median of {TURNS} turns)")
    for batch in BATCHES:
        turns = [(speed(1, batch), speed(2, batch)) for _ in range(TURNS)]
        one, two, ratio = (
            statistics.median(values) for values in (*zip(*turns, strict=True), [b / a for a, b in turns])
        )
        print(f"{batch:>8}{one:14.0f}{two:8.0f}{ratio:8.2f}", flush=True)
        rows.append({"batch": batch, "one": one, "two": two, "ratio": ratio, "turns": turns})
    write("processes", {"steps": STEPS, "n": TURNS, "rows": rows, "machine": machine()})


if __name__ == "__main__":
    measure(int(sys.argv[1])) if len(sys.argv) > 1 else main()
