"""results/tune/: what an Optuna study found, measured on validation images."""

import os
from pathlib import Path

from mnist_pipeline import console, settings
from mnist_pipeline.data.catalogue import are_digits
from mnist_pipeline.data.dataset import Dataset, load
from mnist_pipeline.training.hyperparameters import SHORTEST_EPOCH, resolve
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


def make_objective(params: settings.Tune, dataset: Dataset, seed: int, epochs: float | None = None) -> Objective:
    """What a trial does: what params.yaml says, on a dataset, with a seed for each trial's network and images.

    `epochs` are those of the final training, where it does not have the default number.
    """
    fixed, _ = resolve({"epochs": epochs}, {}, dataset.defaults)
    space = params.distributions
    if dataset.reader == "handwriting" or are_digits(dataset.class_names):
        space.pop("flip", None)  # the mirror image of a character is another one
    final_images = round(fixed.epochs * max(len(dataset.train.labels), SHORTEST_EPOCH))
    retraining_images = max(2 * params.images_per_trial, round(params.retraining_fraction * final_images))
    return Objective(
        dataset=dataset,
        space=space,
        fixed=fixed,
        images_per_trial=min(params.images_per_trial, final_images),
        images_per_retraining=min(retraining_images, final_images),
        evaluations=params.evaluations,
        evaluation_images=params.evaluation_images,
        pruner=params.pruner,
        seed=seed,
    )


if __name__ == "__main__":
    console.run(main)
