"""Train on a few hundred real digits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from mnist_pipeline.data.dataset import Dataset, Examples, load
from mnist_pipeline.training.train import train as train_and_save


def dataset(source: Path) -> Dataset:
    """640 images to learn from, 200 to measure with."""
    whole = load(source, 200, 0)
    return replace(whole, train=Examples(whole.train.images[:640], whole.train.labels[:640]))


def train(digits: Dataset, out: Path, *, seed: int = 0, checkpoint_seconds: float = 0.0, **changes: Any) -> None:
    """Train for 20 steps, or resume; `changes` are hyperparameters."""
    given = {"optimizer": "adam", "lr": 1e-3, "batch_size": 32, "rotation": 10.0, "outliers": 0.0, "digit_forms": 0.0}
    given["epochs"] = 0.128  # an epoch of few images counts as one of 5,000: these are the 640
    train_and_save(
        digits,
        given | changes,
        {},
        seed=seed,
        checkpoint_folder=out / "checkpoints",
        checkpoint_seconds=checkpoint_seconds,
        model_folder=out / "saved_models",
        results_folder=out / "results",
    )
