"""From hyperparameters to a trained model on disk."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mnist_pipeline import compute, evaluation, files, model, recipe, training
from mnist_pipeline.checkpoint import Checkpoint
from mnist_pipeline.data import Dataset, Examples
from mnist_pipeline.network import DigitNetwork

log = logging.getLogger(__name__)


def train_model(
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
    """Train on a dataset and leave the model, its description and its curves; go on from a checkpoint if there is one.

    Args:
        dataset: with its validation images.
        given: hyperparameters by name; None leaves one to `tuned`.
        tuned: what tune found.
        seed: of the first weights, the order of the images, and augmentation.
        checkpoint_folder: for the state of an unfinished training; removed at the end.
        checkpoint_seconds: between two savings; 0 saves none.
        model_folder: gets the weights and model_info.json.
        results_folder: gets history.csv.

    Raises:
        training.Diverged: the loss became NaN or infinite; model_folder is left as it was.
    """
    started = datetime.now(UTC)
    chosen, sources = recipe.choose(given, tuned, dataset.name)
    hp = recipe.adapt_to_size(chosen, len(dataset.train.labels))
    device = compute.best_device()
    torch.manual_seed(seed)
    network = DigitNetwork(len(dataset.class_names), dataset.mean, dataset.std).to(device)
    sources = recipe.record_adaptation(sources, hp, len(dataset.train.labels))
    log.info(
        "Training on %d images of %s (%s, %s): %d steps of %d, %s, learning rate %.3g.",
        len(dataset.train.labels),
        dataset.name,
        device,
        "bfloat16" if compute.has_bfloat16(device) else "fp32",
        hp.steps(len(dataset.train.labels)),
        hp.batch_size,
        hp.optimizer,
        hp.lr,
    )
    question = {
        "hyperparameters": asdict(hp),
        "seed": seed,
        "data": dataset.checksums,
        "held out": hashlib.sha256(dataset.validation.images.numpy().tobytes()).hexdigest(),
        "code": training.code(),
        "torch": torch.__version__,
    }
    checkpoint = Checkpoint(checkpoint_folder, digest(question)) if checkpoint_seconds else None
    glance = Examples(dataset.validation.images[:2000], dataset.validation.labels[:2000])
    history = training.fit(
        network,
        dataset.train,
        glance,
        hp,
        seed=seed,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
        description="train",
    )
    logits = compute.predict(network, dataset.validation.images)
    info: dict[str, Any] = {
        "created": started.isoformat(timespec="seconds"),
        "class_names": list(dataset.class_names),
        "reader": dataset.reader,
        "normalisation": {"mean": dataset.mean, "std": dataset.std},
        "temperature": evaluation.fit_temperature(logits, dataset.validation.labels),
        "validation_accuracy": compute.accuracy(logits, dataset.validation.labels),
        "hyperparameters": sources,
        "seed": seed,
        "dataset": {
            "name": dataset.name,
            "training_images": len(dataset.train.labels),
            "validation_images": len(dataset.validation.labels),
            "sha256": dataset.checksums,
        },
        "device": str(device),
        "training_seconds": history[-1].seconds,
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    files.write_csv(results_folder / "history.csv", [asdict(report) for report in history])
    weights = model.save(model_folder, network.cpu(), info, started)
    if checkpoint:
        checkpoint.remove()
    log.info(
        "%s: validation accuracy %.2f %% after %.0f s of training.",
        weights,
        100 * info["validation_accuracy"],
        history[-1].seconds,
    )


def digest(question: Mapping[str, Any]) -> str:
    """SHA-256 of JSON-able content."""
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
