"""Does pruning pay? Studies with and without it, in turn, each with the same seconds.

The best values of each study train once more, and are measured on validation images that the study did not look at: a
study that tries more would else look better by luck alone. Trials are short, so that a study of few seconds has many.

python benchmarks/bench_pruning.py [studies [seconds]]
"""

import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from common import ROOT, machine, write

from mnist_pipeline import compute, data, recipe, settings, training, tuning
from mnist_pipeline.network import DigitNetwork

STUDIES = int(sys.argv[1]) if len(sys.argv) > 1 else 3
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 90.0
HELD_OUT = 10_000
TRIAL_IMAGES, REPORT_IMAGES = 1500, 500
PRUNERS = ("median", "none")


def main() -> None:
    params = settings.load(ROOT / "params.yaml").tune
    whole = data.load(ROOT / "data", HELD_OUT, 0)
    seen, unseen = (
        data.Examples(*(part[place] for part in whole.validation))
        for place in (slice(REPORT_IMAGES), slice(REPORT_IMAGES, None))
    )
    dataset, fixed = replace(whole, validation=seen), recipe.choose({}, {}, whole.name)[0]
    rows: list[dict[str, Any]] = []
    for seed in range(STUDIES):
        for pruner in PRUNERS:
            with tempfile.TemporaryDirectory() as name:
                study = tuning.tune(
                    dataset,
                    {name: parameter.model_dump() for name, parameter in params.search_space.items()},
                    [],  # nothing is known beforehand: the study alone shall find it
                    fixed,
                    trials=1000,
                    seconds=SECONDS,
                    images_per_trial=TRIAL_IMAGES,
                    reports=params.reports,
                    report_images=REPORT_IMAGES,
                    pruner=pruner,
                    patience=params.patience,
                    seed=seed,
                    storage=f"sqlite:///{name}/db.sqlite3",
                    workers=1,
                    folder=Path(name),
                )
                best = yaml.safe_load((Path(name) / "best_params.yaml").read_text())
            counts = tuning.counts(study.trials)
            rows.append({"pruner": pruner, "seed": seed, **counts, "best": best, "study_value": study.best_value})
            rows[-1]["unseen"] = again(dataset, unseen, fixed, best, TRIAL_IMAGES)
    print(f"{'pruner':10}{'seed':>5}{'trials':>8}{'pruned':>8}{'in the study':>14}{'on unseen images':>18}")
    for row in rows:
        print(
            f"{row['pruner']:10}{row['seed']:5}{row['finished']:8}{row['pruned']:8}"
            f"{row['study_value']:14.2%}{row['unseen']:18.2%}"
        )
    means = {pruner: statistics.mean(row["unseen"] for row in rows if row["pruner"] == pruner) for pruner in PRUNERS}
    print(f"\nMean of {STUDIES} studies of {SECONDS:g} s: ", end="")
    print(f"{means['median']:.2%} with pruning, {means['none']:.2%} without.")
    content = {"mean_accuracy": means, "seconds": SECONDS, "n": STUDIES, "trial_images": TRIAL_IMAGES, "rows": rows}
    write("pruning", content | {"machine": machine()})


def again(
    dataset: data.Dataset, unseen: data.Examples, fixed: training.Hyperparameters, best: dict[str, Any], images: int
) -> float:
    """Accuracy on unseen images of a network trained with the best values, with a seed that no trial had."""
    torch.manual_seed(1000)
    network = DigitNetwork(len(dataset.class_names), dataset.mean, dataset.std).to(compute.best_device())
    values = tuning.with_values(fixed, best | {"epochs": images / len(dataset.train.labels)})
    return training.fit(network, dataset.train, unseen, values, seed=1000, reports=1)[-1].validation_accuracy


if __name__ == "__main__":
    main()
