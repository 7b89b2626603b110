"""From hyperparameters to a trained model on disk."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnist_pipeline import files
from mnist_pipeline.data.dataset import Dataset, Examples
from mnist_pipeline.training import loop, model
from mnist_pipeline.training.checkpoint import Checkpoint
from mnist_pipeline.training.generated import add_generated
from mnist_pipeline.training.hyperparameters import Hyperparameters, adapt_to_size, record_adaptation, resolve
from mnist_pipeline.training.inference import accuracy, predict
from mnist_pipeline.training.model_info import ModelDescription
from mnist_pipeline.training.runtime import best_device, has_bfloat16
from mnist_pipeline.training.temperature import fit_temperature

log = logging.getLogger(__name__)


def train(
    dataset: Dataset,
    given: Mapping[str, Any],
    tuned: Mapping[str, Any],
    *,
    seed: int,
    checkpoint_folder: Path,
    checkpoint_seconds: float,
    model_folder: Path,
    results_folder: Path,
) -> None:
    """Train on a dataset, or resume from a checkpoint, and write the model, its description and history.csv.

    Hyperparameters that are None in `given` come from `tuned`. An unfinished training's state is written to
    `checkpoint_folder` every `checkpoint_seconds`, if they are not 0. loop.Diverged leaves model_folder as it was.
    """
    started, images = datetime.now(UTC), len(dataset.train.labels)
    resolved, sources = resolve(given, tuned, dataset.defaults)
    hp = adapt_to_size(resolved, images)
    sources = record_adaptation(sources, hp, images)
    network = loop.new_network(dataset, seed)
    examples = add_generated(dataset.train, hp, dataset.class_names, seed)
    log.info("Training on %d images of %s and %d generated ones:", images, dataset.name, len(examples.labels) - images)
    log_steps(hp, len(examples.labels))
    fingerprint = loop.fingerprint(dataset, {"hyperparameters": asdict(hp), "seed": seed})
    checkpoint = Checkpoint(checkpoint_folder, fingerprint, checkpoint_seconds) if checkpoint_seconds else None
    subset = Examples(dataset.validation.images[:2000], dataset.validation.labels[:2000])
    history = loop.fit(network, examples, subset, hp, seed=seed, checkpoint=checkpoint, description="train")

    logits = predict(network, dataset.validation.images)
    network.temperature.fill_(fit_temperature(logits, dataset.validation.labels))
    description: ModelDescription = {
        "class_names": list(dataset.class_names),
        "reader": dataset.reader,
        "image_size": dataset.image_size,
        "colour": dataset.colour,
        "on_black": dataset.on_black,
        "normalisation": {"mean": dataset.mean, "std": dataset.std},
        "temperature": network.temperature.item(),
        "validation_accuracy": accuracy(logits, dataset.validation.labels),
        "hyperparameters": sources,
        "seed": seed,
        "dataset": {
            "name": dataset.name,
            "training_images": images,
            "validation_images": len(dataset.validation.labels),
            "sha256": dataset.checksums,
        },
        "device": str(best_device()),
        "training_seconds": history[-1].seconds,
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    files.write_csv(results_folder / "history.csv", [asdict(evaluation) for evaluation in history])
    weights = model.save_model(model_folder, network.cpu(), description)
    if checkpoint:
        checkpoint.remove()
    score = 100 * description["validation_accuracy"]
    log.info("%s: validation accuracy %.2f %% after %.0f s of training.", weights, score, history[-1].seconds)


def log_steps(hp: Hyperparameters, images: int) -> None:
    """Log how so many images are trained on."""
    device = best_device()
    kind = "bfloat16" if has_bfloat16(device) else "fp32"
    steps = hp.steps(images)
    log.info("%d steps of %d, %s, learning rate %.3g (%s, %s)", steps, hp.batch_size, hp.optimizer, hp.lr, device, kind)
