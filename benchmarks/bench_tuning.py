"""What tuning is worth: the accuracy of models that are trained with the default values, and with what a search found.

The searches are params.yaml's study, without a limit of time, and random values in the time that the study took, of
which the trial of the highest accuracy is taken. The data are 5,000 images of a dataset of which nothing is known: the
default values are those of a folder of images. A seed decides the sampler, the networks of the trials, and the model
that is trained afterwards, so that two ways differ in their values alone. The test images, which no search saw, are
looked at once for each model.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import yaml
from bench_accuracy import train
from common import ROOT
from figures import publish
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from mnist_pipeline import settings
from mnist_pipeline.data.dataset import Dataset, Examples, load, load_test
from mnist_pipeline.evaluation.metrics import accuracy_with_interval
from mnist_pipeline.sources.download import download
from mnist_pipeline.training.hyperparameters import SHORTEST_EPOCH, resolve
from mnist_pipeline.training.inference import predict
from mnist_pipeline.training.runtime import configure
from mnist_pipeline.tuning.study import PRUNERS, tune
from mnist_pipeline.tuning.trials import rank, run_one
from stages.tune import make_objective

WAYS = ("defaults", "study", "random")
IMAGES = 5000  # of a dataset: a fifth of them to validate with


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="*", default=["FashionMNIST", "CIFAR10"], help="names in data.dataset")
    parser.add_argument("--mirrors", nargs="*", default=[], help="folders or URLs that hold their published files")
    parser.add_argument("--data", nargs="*", default=[], type=Path, help="folders that `download` filled, instead")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--images", type=int, default=30_000, help="that the final trainings see")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    parser.add_argument("--result", default="tuning", help="name of the file in benchmarks/results")
    arguments = parser.parse_args()
    if "random" in arguments.ways and "study" not in arguments.ways:
        parser.error("random values take the time of the study: add study")
    configure()
    logging.disable(logging.INFO)
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            for data in arguments.data or fetch(arguments.datasets, arguments.mirrors, Path(folder)):
                dataset, test = take_few(data)
                of_seed = compare(dataset, test, seed, arguments.images, arguments.ways, Path(folder) / data.name)
                runs.append({"dataset": data.name, "seed": seed, "ways": of_seed})
                summary = summarise(runs, arguments.ways)
                publish(arguments.result, {"images": arguments.images, "summary": summary, "runs": runs})


def fetch(names: Sequence[str], mirrors: Sequence[str], folder: Path) -> list[Path]:
    """Download datasets, those that are not there yet, each into a folder of its name."""
    for name in names:
        if not (folder / name).exists():
            download(name, folder / name, mirrors)
    return [folder / name for name in names]


def take_few(data: Path) -> tuple[Dataset, Examples]:
    """The first IMAGES training images of a dataset as somebody's own folder, and all of its test images."""
    whole = load(data, IMAGES // 5, 0)
    train = Examples(*(part[: IMAGES - IMAGES // 5] for part in whole.train))
    return replace(whole, name="folder", train=train), load_test(data)


def compare(
    dataset: Dataset, test: Examples, seed: int, images: int, ways: Sequence[str], folder: Path
) -> dict[str, dict[str, Any]]:
    """Choose values in each way and train with them, equal values once; what is found is printed at once.

    Args:
        dataset, test: to train and choose with, and to measure with.
        seed: of the searches and of the final training.
        images: that the final training sees.
        ways: of WAYS.
        folder: gets the studies.
    """
    params = settings.load(ROOT / "params.yaml").tune
    objective = make_objective(params, dataset, seed, epochs=images / SHORTEST_EPOCH)
    found: dict[str, dict[str, Any]] = {"defaults": {"values": {}, "seconds": 0.0}}
    if "study" in ways:
        start = time.perf_counter()
        study = tune(
            objective,
            params.initial_trials,
            trials=params.trials,
            retrained_trials=params.retrained_trials,
            seconds=1e6,
            storage=f"sqlite:///{folder}-{seed}.sqlite3",
            workers=1,
            folder=folder / str(seed),
        )
        seconds = time.perf_counter() - start
        file = folder / str(seed) / "best_params.yaml"
        reason, values = file.read_text().splitlines()[0], yaml.safe_load(file.read_text())
        found["study"] = {"values": values, "seconds": seconds, "reason": reason} | count(study.trials)
    if "random" in ways:
        start = time.perf_counter()
        study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed), pruner=PRUNERS[params.pruner])
        while time.perf_counter() - start < found["study"]["seconds"] or not rank(study):
            run_one(study, objective)
        found["random"] = {"values": rank(study)[0].params, "seconds": time.perf_counter() - start} | count(
            study.trials
        )
    trained: dict[str, dict[str, Any]] = {}
    for way in (way for way in WAYS if way in ways):
        hp, _ = resolve({}, found[way]["values"], dataset.defaults)
        hp = replace(hp, epochs=images / len(dataset.train.labels))
        if str(hp) not in trained:
            start = time.perf_counter()
            network, _ = train(dataset, hp, seed, f"seed {seed}, {way}")
            figures = accuracy_with_interval(predict(network, test.images).argmax(1) == test.labels)
            trained[str(hp)] = {**figures, "training_seconds": time.perf_counter() - start}
        found[way] |= trained[str(hp)]
        print(f"{folder.name}, seed {seed}, {way}: {found[way]}", flush=True)
    return {way: found[way] for way in WAYS if way in ways}


def count(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """How many trials there were, and how many of them were pruned."""
    return {"trials": len(trials), "pruned": sum(trial.state == TrialState.PRUNED for trial in trials)}


def summarise(runs: list[dict[str, Any]], ways: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation over the seeds: of each way's accuracy, and of its difference to the defaults'."""
    summary = {}
    for dataset in dict.fromkeys(run["dataset"] for run in runs):
        of_one = [run["ways"] for run in runs if run["dataset"] == dataset]
        for way in ways:
            values = [run[way]["accuracy"] for run in of_one]
            summary[f"{dataset}, {way}"] = describe(values)
            if way != "defaults" and "defaults" in ways:
                differences = [run[way]["accuracy"] - run["defaults"]["accuracy"] for run in of_one]
                summary[f"{dataset}, {way} less defaults"] = describe(differences)
            summary[f"{dataset}, {way}, seconds of the search"] = describe([run[way]["seconds"] for run in of_one])
    return summary


def describe(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation (0 for one value) and number."""
    return {
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
        "n": len(values),
    }


if __name__ == "__main__":
    main()
