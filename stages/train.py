"""saved_models/: the time-stamped weights and model_info.json; results/train/: the curves."""

from pathlib import Path

import yaml

from mnist_pipeline import console, settings
from mnist_pipeline.data.dataset import load
from mnist_pipeline.training.runtime import configure
from mnist_pipeline.training.train import train


def main() -> None:
    configure()
    params = settings.load()
    tuned = yaml.safe_load(Path("results/tune/best_params.yaml").read_text())
    train(
        load(Path("data"), params.data.validation_images, params.data.seed),
        params.train.model_dump(),
        tuned,
        seed=params.train.seed,
        checkpoint_folder=Path("checkpoints"),
        checkpoint_seconds=params.train.checkpoint_seconds,
        model_folder=Path("saved_models"),
        results_folder=Path("results/train"),
    )


if __name__ == "__main__":
    console.run(main)
