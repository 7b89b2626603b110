"""saved_models/: the time-stamped weights and model_info.json; results/train/: the curves."""

from pathlib import Path

import yaml

from mnist_pipeline import console, data, settings, train_model


def main() -> None:
    params = settings.load()
    tuned = yaml.safe_load(Path("results/tune/best_params.yaml").read_text())
    train_model.train_model(
        data.load(Path("data"), params.data.validation_images, params.data.seed),
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
