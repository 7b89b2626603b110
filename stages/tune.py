"""results/tune/: what an Optuna study found, measured on validation images."""

import os
from pathlib import Path

from mnist_pipeline import console, settings
from mnist_pipeline.data.catalogue import are_digits
from mnist_pipeline.data.dataset import Dataset, load
from mnist_pipeline.training.hyperparameters import resolve
from mnist_pipeline.training.runtime import configure
from mnist_pipeline.tuning.objective import Objective
from mnist_pipeline.tuning.study import tune


def main() -> None:
    configure()
    params = settings.load()
    dataset = load(Path("data"), params.data.validation_images, params.data.seed)
    objective = make_objective(params.tune, dataset, params.tune.seed)
    tune(
        objective,
        [{name: values[name] for name in values if name in objective.space} for values in params.tune.initial_trials],
        trials=params.tune.trials,
        retrained_trials=params.tune.retrained_trials,
        seconds=params.tune.seconds,
        # A value from a file or a Kubernetes secret often ends with a line break.
        storage=os.environ.get("MNIST_PIPELINE_STORAGE", "").strip() or params.tune.storage,
        workers=params.tune.workers,
        folder=Path("results/tune"),
    )


def make_objective(params: settings.Tune, dataset: Dataset, seed: int) -> Objective:
    """What a trial does: what params.yaml says, on a dataset, with a seed for each trial's network and images."""
    fixed, _ = resolve({}, {}, dataset.defaults)
    space = params.distributions
    if dataset.reader == "handwriting" or are_digits(dataset.class_names):
        space.pop("flip", None)  # the mirror image of a character is another one
    return Objective(
        dataset=dataset,
        space=space,
        fixed=fixed,
        images_per_trial=params.images_per_trial,
        retraining_fraction=params.retraining_fraction,
        evaluations=params.evaluations,
        evaluation_images=params.evaluation_images,
        pruner=params.pruner,
        seed=seed,
    )


if __name__ == "__main__":
    console.run(main)
