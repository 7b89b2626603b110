"""What tuning is worth: the accuracy of models that are trained with what four ways of choosing values found.

The ways are params.yaml's study, the trial of highest accuracy in it, its initial trials alone, and as many seconds of
random values from its search space.
On Fashion-MNIST, where models differ enough to be told apart. A seed decides the study's sampler, the networks of its
trials, and the model that is trained afterwards, so that the four differ in their values alone. The test images, which
no study saw, are looked at once for each model.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from bench_accuracy import train
from common import ROOT, describe_machine, write
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from mnist_pipeline import settings
from mnist_pipeline.data.dataset import Dataset, Examples, load, load_test
from mnist_pipeline.evaluation.metrics import accuracy_with_interval
from mnist_pipeline.sources.download import download
from mnist_pipeline.training.hyperparameters import resolve
from mnist_pipeline.training.inference import predict
from mnist_pipeline.training.runtime import configure
from mnist_pipeline.tuning.study import make_pruner, tune
from mnist_pipeline.tuning.trials import choose_trial, find_best, run_one
from stages.tune import make_objective

CHANGES = ("trials", "seconds", "images_per_trial", "evaluation_images")  # that a slow machine needs
WAYS = ("study", "highest accuracy", "initial trials", "random")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="FashionMNIST")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--epochs", type=float, default=2.0, help="of the final trainings")
    for name in CHANGES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"in place of params.yaml's tune.{name}")
    parser.add_argument("--mirrors", nargs="*", default=[], help="folders or URLs that hold the dataset's IDX files")
    arguments = parser.parse_args()
    configure()
    logging.disable(logging.INFO)
    params = settings.load(ROOT / "params.yaml")
    changes = {name: value for name in CHANGES if (value := getattr(arguments, name)) is not None}
    tune_params = params.tune.model_copy(update=changes)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        download(arguments.dataset, data, arguments.mirrors)
        dataset, test = load(data, params.data.validation_images, params.data.seed), load_test(data)
        runs = []
        for seed in range(arguments.seeds):
            chosen = choose(tune_params, dataset, seed, Path(folder) / str(seed))
            runs.append({"seed": seed, "ways": train_each(chosen, dataset, test, seed, arguments.epochs)})
    summary = summarise(runs)
    for name, figures in summary.items():
        print(f"{name}: mean {figures['mean']:.2%}, standard deviation {figures['sd'] or 0:.2%}, n = {len(runs)}")
    content = {
        "dataset": arguments.dataset,
        "epochs": arguments.epochs,
        "tune": changes,
        "summary": summary,
        "runs": runs,
    }
    write("tuning", content | {"machine": describe_machine()})


def choose(params: settings.Tune, dataset: Dataset, seed: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Run each way of choosing values with one seed, and return what it found: values, their accuracy, seconds, trials.

    Args:
        params: `tune` of params.yaml.
        dataset: to train and to validate the trials with.
        seed: takes the place of tune.seed.
        folder: gets the study.
    """
    objective = make_objective(params, dataset, seed)
    start = time.perf_counter()
    study = tune(
        objective,
        params.initial_trials,
        trials=params.trials,
        seconds=params.seconds,
        storage=f"sqlite:///{folder}.sqlite3",
        workers=1,
        folder=folder,
    )
    seconds = time.perf_counter() - start
    found = {
        "study": describe(study.trials, choose_trial(study, params.initial_trials, objective.evaluation_images)),
        "highest accuracy": describe(study.trials),
        "initial trials": describe(study.trials[: len(params.initial_trials)]),
    }
    start = time.perf_counter()
    study = optuna.create_study(
        direction="maximize",
        sampler=RandomSampler(seed),
        pruner=make_pruner(params.pruner, params.n_warmup_steps),
    )
    while time.perf_counter() - start < seconds or find_best(study) is None:
        run_one(study, objective)
    return found | {"random": describe(study.trials)}


def describe(trials: Sequence[FrozenTrial], chosen: FrozenTrial | None = None) -> dict[str, Any]:
    """The values of one of some trials, by default of the best, and how long the trials took together."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    chosen = chosen or max(complete, key=lambda trial: (trial.value or 0, -trial.number))
    seconds = sum(trial.duration.total_seconds() for trial in trials if trial.duration)
    return {
        "values": chosen.params,
        "trial": chosen.number,
        "validation": chosen.value,
        "trials": len(trials),
        "pruned": sum(trial.state == TrialState.PRUNED for trial in trials),
        "seconds": seconds,
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
            hp, _ = resolve({}, found["values"], dataset.defaults)
            network, _ = train(dataset, replace(hp, epochs=epochs), seed, f"seed {seed}, {way}")
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
