"""results/tune/: what an Optuna study found, measured on validation images."""

import os
from pathlib import Path

from mnist_pipeline import console, settings
from mnist_pipeline.data.dataset import load
from mnist_pipeline.training.hyperparameters import resolve
from mnist_pipeline.training.runtime import configure
from mnist_pipeline.tuning.objective import Objective
from mnist_pipeline.tuning.search_space import Parameter
from mnist_pipeline.tuning.study import tune


def main() -> None:
    configure()
    params = settings.load()
    dataset = load(Path("data"), params.data.validation_images, params.data.seed)
    fixed, _ = resolve({}, {}, dataset.name)
    objective = Objective(
        dataset=dataset,
        space={name: Parameter(found.distribution, found.when) for name, found in params.tune.search_space.items()},
        fixed=fixed,
        images_per_trial=params.tune.images_per_trial,
        evaluations=params.tune.evaluations,
        evaluation_images=params.tune.evaluation_images,
        pruner=params.tune.pruner,
        n_warmup_steps=params.tune.n_warmup_steps,
        seed=params.tune.seed,
    )
    tune(
        objective,
        params.tune.initial_trials,
        trials=params.tune.trials,
        seconds=params.tune.seconds,
        storage=os.environ.get("MNIST_PIPELINE_STORAGE", params.tune.storage),
        workers=params.tune.workers,
        folder=Path("results/tune"),
    )


if __name__ == "__main__":
    console.run(main)
