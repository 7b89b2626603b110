"""A study on a few hundred real digits, in a process of its own that a test can kill: small_study.py DATA OUT"""

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_pipeline.data.dataset import Examples, load
from mnist_pipeline.training.hyperparameters import Hyperparameters
from mnist_pipeline.tuning.objective import Objective
from mnist_pipeline.tuning.study import tune

SPACE = {
    "optimizer": CategoricalDistribution(["adam", "sgd"]),
    "batch_size": IntDistribution(8, 24, step=8),
    "lr": FloatDistribution(1e-4, 1e-2, log=True),
}
DEFAULTS = {"optimizer": "sgd", "batch_size": 16, "lr": 5e-3}
INITIAL_TRIALS = [{"optimizer": "adam", "lr": 1e-3}]  # a batch of 16, as by default


def make_objective(source: Path, **changes: Any) -> Objective:
    """An objective that takes a tenth of a second: with 192 training images and 60 validation images."""
    dataset = load(source, 60, 0)
    objective = Objective(
        dataset=replace(dataset, train=Examples(dataset.train.images[:192], dataset.train.labels[:192])),
        space=SPACE,
        fixed=replace(Hyperparameters(), **DEFAULTS),  # type: ignore[arg-type]
        images_per_trial=48,
        images_per_retraining=96,
        evaluations=3,
        evaluation_images=40,
        pruner="none",
        seed=0,
    )
    return replace(objective, **changes)


def study(
    source: Path,
    out: Path,
    trials: int = 4,
    seconds: float = 1000.0,
    workers: int = 1,
    storage: str = "",
    **changes: Any,
) -> optuna.Study:
    """Run the study, or resume it; `changes` are the objective's."""
    return tune(
        make_objective(source, **changes),
        INITIAL_TRIALS,
        trials=trials,
        retrained_trials=1,
        seconds=seconds,
        storage=storage or f"sqlite:///{out}/db.sqlite3",
        workers=workers,
        folder=out / "results",
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    study(Path(sys.argv[1]), Path(sys.argv[2]))
