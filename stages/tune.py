"""results/tune/: what an Optuna study found, measured on validation images."""

import os
from pathlib import Path

from mnist_pipeline import console, data, recipe, settings, tuning


def main() -> None:
    params = settings.load()
    dataset = data.load(Path("data"), params.data.validation_images, params.data.seed)
    tuning.tune(
        dataset,
        {name: parameter.model_dump() for name, parameter in params.tune.search_space.items()},
        params.tune.first,
        recipe.choose({}, {}, dataset.name)[0],
        trials=params.tune.trials,
        seconds=params.tune.seconds,
        images_per_trial=params.tune.images_per_trial,
        reports=params.tune.reports,
        report_images=params.tune.report_images,
        pruner=params.tune.pruner,
        patience=params.tune.patience,
        seed=params.tune.seed,
        storage=os.environ.get("MNIST_PIPELINE_STORAGE", params.tune.storage),
        workers=params.tune.workers,
        folder=Path("results/tune"),
    )


if __name__ == "__main__":
    console.run(main)
