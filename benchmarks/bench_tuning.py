"""What tuning is worth: the accuracy of models that are trained with what three ways of choosing values found.

The ways are params.yaml's study, its initial trials alone, and as many seconds of random values from its search space.
On Fashion-MNIST, where models differ enough to be told apart. A seed decides the study's sampler, the networks of its
trials, and the model that is trained afterwards, so that the three differ in their values alone. The test images, which
no study saw, are looked at once for each model.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import torch
from common import ROOT, describe_machine, write
from optuna.samplers import RandomSampler

from mnist_pipeline import settings
from mnist_pipeline.data.dataset import Dataset, Examples, load, load_test
from mnist_pipeline.data.download import download
from mnist_pipeline.evaluation.metrics import accuracy_with_interval
from mnist_pipeline.training import loop
from mnist_pipeline.training.hyperparameters import resolve
from mnist_pipeline.training.inference import predict
from mnist_pipeline.training.network import DigitNetwork
from mnist_pipeline.training.runtime import best_device, configure
from mnist_pipeline.tuning.objective import Objective
from mnist_pipeline.tuning.search_space import Parameter
from mnist_pipeline.tuning.study import make_pruner, tune
from mnist_pipeline.tuning.trials import find_best, run_one

WAYS = ("study", "initial trials", "random")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="FashionMNIST")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--epochs", type=float, default=2.0, help="of the final trainings")
    parser.add_argument("--mirrors", nargs="*", default=[], help="folders or URLs that hold the dataset's IDX files")
    arguments = parser.parse_args()
    configure()
    logging.disable(logging.INFO)
    params = settings.load(ROOT / "params.yaml")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        download(arguments.dataset, data, arguments.mirrors)
        dataset, test = load(data, params.data.validation_images, params.data.seed), load_test(data)
        runs = []
        for seed in range(arguments.seeds):
            chosen = choose(params.tune, dataset, seed, Path(folder) / str(seed))
            runs.append({"seed": seed, "ways": train_each(chosen, dataset, test, seed, arguments.epochs)})
    summary = summarise(runs)
    for name, figures in summary.items():
        print(f"{name}: mean {figures['mean']:+.2%}, standard deviation {figures['sd'] or 0:.2%}, n = {len(runs)}")
    content = {"dataset": arguments.dataset, "epochs": arguments.epochs, "summary": summary, "runs": runs}
    write("tuning", content | {"machine": describe_machine()})


def choose(params: Any, dataset: Dataset, seed: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Run each way of choosing values with one seed, and return what it found: values, their accuracy, seconds, trials.

    Args:
        params: `tune` of params.yaml.
        dataset: to train and to validate the trials with.
        seed: takes the place of tune.seed.
        folder: gets the studies.
    """
    fixed, _ = resolve({}, {}, dataset.name)
    objective = Objective(
        dataset=dataset,
        space={name: Parameter(found.distribution, found.when) for name, found in params.search_space.items()},
        fixed=fixed,
        images_per_trial=params.images_per_trial,
        evaluations=params.evaluations,
        evaluation_images=params.evaluation_images,
        pruner=params.pruner,
        n_warmup_steps=params.n_warmup_steps,
        seed=seed,
    )
    found = {}
    start = time.perf_counter()
    for way, trials in (("study", params.trials), ("initial trials", len(params.initial_trials))):
        study = tune(
            objective,
            params.initial_trials,
            trials=trials,
            seconds=params.seconds,
            storage=f"sqlite:///{folder}-{trials}.sqlite3",
            workers=1,
            folder=folder / str(trials),
        )
        found[way] = describe(study, time.perf_counter() - start)
        start = time.perf_counter()
    study = optuna.create_study(
        direction="maximize",
        sampler=RandomSampler(seed),
        pruner=make_pruner(params.pruner, params.n_warmup_steps),
    )
    while time.perf_counter() - start < min(params.seconds, found["study"]["seconds"]) or find_best(study) is None:
        run_one(study, objective)
    return found | {"random": describe(study, time.perf_counter() - start)}


def describe(study: optuna.Study, seconds: float) -> dict[str, Any]:
    """The best values of a study, and what finding them took."""
    best = find_best(study)
    assert best is not None
    return {"values": best.params, "trial": best.number, "validation": best.value, "trials": len(study.trials)} | {
        "seconds": seconds
    }


def train_each(
    chosen: Mapping[str, Mapping[str, Any]], dataset: Dataset, test: Examples, seed: int, epochs: float
) -> dict[str, dict[str, Any]]:
    """Train with the values of each way, and evaluate once on the test images; equal values are trained once."""
    trained: dict[str, dict[str, Any]] = {}
    results = {}
    for way, found in chosen.items():
        key = str(sorted(found["values"].items()))
        if key not in trained:
            hp, _ = resolve({}, found["values"], dataset.name)
            torch.manual_seed(seed)
            network = DigitNetwork(len(dataset.class_names), dataset.mean, dataset.std).to(best_device())
            loop.fit(
                network,
                dataset.train,
                dataset.validation,
                replace(hp, epochs=epochs),
                seed=seed,
                evaluations=1,
                description=f"seed {seed}, {way}",
            )
            trained[key] = accuracy_with_interval(predict(network, test.images).argmax(1) == test.labels)
        results[way] = {**found, **trained[key]}
        print(
            f"seed {seed}, {way}: {trained[key]['accuracy']:.2%} with {found['values']}, the best of "
            f"{found['trials']} trials in {found['seconds']:.0f} s",
            flush=True,
        )
    return results


def summarise(runs: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation over the seeds: of each way's accuracy, and of the differences to the study's."""
    values = {way: [run["ways"][way]["accuracy"] for run in runs] for way in WAYS}
    for way in WAYS[1:]:
        values[f"study less {way}"] = [a - b for a, b in zip(values["study"], values[way], strict=True)]
    return {
        name: {"mean": statistics.mean(each), "sd": statistics.stdev(each) if len(each) > 1 else None}
        for name, each in values.items()
    }


if __name__ == "__main__":
    main()
