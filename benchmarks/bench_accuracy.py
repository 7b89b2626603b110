"""Time to 99.28 % on the test images: the accuracy that three epochs of the plain way reached in some 2,600 s.

A short, fixed recipe is trained with several seeds; its last weights meet the test images once each. The recipe was
chosen on validation images. Seconds are of training alone, all of it, from the first step to the last.
"""

import statistics
import sys

import torch
from common import ROOT, machine, write

from mnist_pipeline import compute, data, evaluation, recipe, training
from mnist_pipeline.network import DigitNetwork

TARGET = 0.9928
SEEDS = range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
RECIPE = {"optimizer": "adam", "lr": 2.5e-3, "batch_size": 64, "epochs": 0.85, "crop": 0.8}
# Less than a pass: no image is seen twice, so there is nothing that augmentation could do.
RECIPE |= {"rotation": 0.0, "translation": 0.0, "scaling": 0.0}


def main() -> None:
    dataset, test = data.load(ROOT / "data", 1000, 0), data.load_test(ROOT / "data")
    hp, _ = recipe.choose(RECIPE, {}, "MNIST")
    runs = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        network = DigitNetwork().to(compute.best_device())
        last = training.fit(
            network, dataset.train, dataset.validation, hp, seed=seed, reports=1, description=f"seed {seed}"
        )[-1]
        correct = compute.predict(network, test.images).argmax(1) == test.labels
        low, high = evaluation.interval(int(correct.sum()), len(correct))
        runs.append(
            {
                "seed": seed,
                "seconds": last.seconds,
                "accuracy": correct.double().mean().item(),
                "low": low,
                "high": high,
            }
        )
        print(
            f"seed {seed}: {runs[-1]['accuracy']:.2%} ({low:.2%} to {high:.2%}) after {last.seconds:.0f} s", flush=True
        )
    accuracies, seconds = [run["accuracy"] for run in runs], [run["seconds"] for run in runs]
    mean = statistics.mean(accuracies)
    print(
        f"\nMean of {len(runs)} seeds: {mean:.2%}, standard deviation {statistics.stdev(accuracies):.2%}, "
        f"after {statistics.mean(seconds):.0f} s of training ({last.images} images)."
    )
    print(f"The target of {TARGET:.2%} is {'reached' if mean >= TARGET else 'NOT reached'} by the mean.")
    write(
        "accuracy",
        {
            "seconds_to_target": statistics.mean(seconds) if mean >= TARGET else None,
            "target": TARGET,
            "accuracy_mean": mean,
            "accuracy_sd": statistics.stdev(accuracies),
            "runs": runs,
            "recipe": RECIPE,
            "images": last.images,
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
