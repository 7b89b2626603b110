"""A study on a few hundred real digits, in a process of its own that a test can kill: small_study.py DATA OUT"""

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from mnist_pipeline import data, tuning
from mnist_pipeline.training import Hyperparameters

SPACE: dict[str, dict[str, Any]] = {
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
    "batch_size": {"type": "int", "low": 8, "high": 24, "step": 8},
    "lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "momentum": {"type": "float", "low": 0.8, "high": 0.95, "when": {"optimizer": ["sgd"]}},
}
FIRST = [{"optimizer": "sgd", "batch_size": 16, "lr": 5e-3, "momentum": 0.9}]


def dataset(source: Path) -> data.Dataset:
    """192 images to learn from, 60 to measure with."""
    whole = data.load(source, 60, 0)
    return replace(whole, train=data.Examples(whole.train.images[:192], whole.train.labels[:192]))


def study(source: Path, out: Path, **changes: Any) -> optuna.Study:
    """Run the study, or go on with it."""
    arguments: dict[str, Any] = {
        "trials": 4,
        "seconds": 1000.0,
        "images_per_trial": 48,
        "reports": 3,
        "report_images": 40,
        "pruner": "none",
        "patience": 1,
        "seed": 0,
        "storage": f"sqlite:///{out}/db.sqlite3",
        "workers": 1,
        "folder": out / "results",
    }
    return tuning.tune(dataset(source), SPACE, FIRST, Hyperparameters(), **arguments | changes)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    study(Path(sys.argv[1]), Path(sys.argv[2]))
