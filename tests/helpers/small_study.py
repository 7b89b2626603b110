"""A study on a few hundred real digits, in a process of its own that a test can kill: small_study.py DATA OUT"""

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_pipeline.data.dataset import Dataset, Examples, load
from mnist_pipeline.training.hyperparameters import Hyperparameters
from mnist_pipeline.tuning.objective import Objective
from mnist_pipeline.tuning.search_space import Parameter
from mnist_pipeline.tuning.study import tune

SPACE = {
    "optimizer": Parameter(CategoricalDistribution(["adam", "sgd"])),
    "batch_size": Parameter(IntDistribution(8, 24, step=8)),
    "lr": Parameter(FloatDistribution(1e-4, 1e-2, log=True)),
    "momentum": Parameter(FloatDistribution(0.8, 0.95), when={"optimizer": ["sgd"]}),
}
INITIAL_TRIALS = [{"optimizer": "sgd", "batch_size": 16, "lr": 5e-3, "momentum": 0.9}]


def few_digits(source: Path) -> Dataset:
    """192 training images and 60 validation images."""
    dataset = load(source, 60, 0)
    return replace(dataset, train=Examples(dataset.train.images[:192], dataset.train.labels[:192]))


def make_objective(source: Path, **changes: Any) -> Objective:
    """An objective that takes a tenth of a second."""
    objective = Objective(
        dataset=few_digits(source),
        space=SPACE,
        fixed=Hyperparameters(),
        images_per_trial=48,
        evaluations=3,
        evaluation_images=40,
        pruner="none",
        n_warmup_steps=1,
        seed=0,
    )
    return replace(objective, **changes)


def study(
    source: Path, out: Path, trials: int = 4, workers: int = 1, storage: str = "", **changes: Any
) -> optuna.Study:
    """Run the study, or resume it; `changes` are the objective's."""
    return tune(
        make_objective(source, **changes),
        INITIAL_TRIALS,
        trials=trials,
        seconds=1000.0,
        storage=storage or f"sqlite:///{out}/db.sqlite3",
        workers=workers,
        folder=out / "results",
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    study(Path(sys.argv[1]), Path(sys.argv[2]))
