"""Which hyperparameters a training has, and where each came from."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from mnist_pipeline.augmentation import Augmentation
from mnist_pipeline.data import DATASETS
from mnist_pipeline.training import WEIGHT_DECAY, Hyperparameters

CENTRED = ("MNIST", "QMNIST")  # digits within 20x20, laid with their centre of mass in the middle of 28x28
SHORTEST_EPOCH = 5_000  # images: fewer are seen several times in an epoch
SMALLEST_BATCH = 16  # images: a step of fewer takes nearly as long, and BatchNorm's averages are noisier

log = logging.getLogger(__name__)


def by_dataset(name: str) -> dict[str, float]:
    """What suits a dataset, of the hyperparameters that depend on what the images show."""
    changes = DATASETS[name].changes
    return {
        "crop": 0.8 if name in CENTRED else 0.0,
        "rotation": 10.0 if changes.affine else 0.0,
        "translation": 1.0 if changes.affine else 0.0,
        "scaling": 0.08 if changes.affine else 0.0,
        "flip": 0.5 if changes.flip else 0.0,
    }


def choose(
    given: Mapping[str, Any], tuned: Mapping[str, Any], dataset: str
) -> tuple[Hyperparameters, dict[str, dict[str, Any]]]:
    """Each hyperparameter: the one given, else what tune found, else what suits the dataset, else the default.

    Where no weight decay is given or was found, it is the one that suits the optimizer.

    Args:
        given: values by name; None gives none.
        tuned: values by name.
        dataset: its name.

    Returns:
        The hyperparameters, and for each name its value and where it came from.
    """
    defaults = asdict(Hyperparameters())
    defaults |= defaults.pop("augmentation")
    sources: dict[str, dict[str, Any]] = {}
    for name, default in defaults.items():
        for source, values in (("params.yaml", given), ("tune", tuned), ("dataset", by_dataset(dataset))):
            if values.get(name) is not None:
                sources[name] = {"value": values[name], "source": source}
                break
        else:
            sources[name] = {"value": default, "source": "default"}
    chosen = hyperparameters({name: source["value"] for name, source in sources.items()})
    if chosen.weight_decay is None:  # stays so in `chosen`: a study's trials differ in their optimizer
        sources["weight_decay"] = {"value": WEIGHT_DECAY[chosen.optimizer], "source": "optimizer"}
    return chosen, sources


def hyperparameters(values: Mapping[str, Any]) -> Hyperparameters:
    """Hyperparameters from flat values by name, those of the augmentation among them."""
    inner = {field.name for field in fields(Augmentation)}
    augmentation = Augmentation(**{name: value for name, value in values.items() if name in inner})
    outer = {name: value for name, value in values.items() if name not in inner}
    return Hyperparameters(**outer, augmentation=augmentation)


def adapt_to_size(hp: Hyperparameters, images: int) -> Hyperparameters:
    """Hyperparameters that suit a number of training images; from SHORTEST_EPOCH images on they stay as they are.

    Fewer images are repeated until an epoch has seen SHORTEST_EPOCH: an epoch of 40 images would be a single step. A
    batch is then at most an eighth of the images, but not below SMALLEST_BATCH, so that batches differ from each
    other. No batch is ever larger than all images.

    Args:
        hp: with the batch size and the epochs that were asked for.
        images: how many there are to train with, 1 or more.
    """
    if images >= SHORTEST_EPOCH:
        return replace(hp, batch_size=min(hp.batch_size, images))
    batch_size = min(hp.batch_size, max(SMALLEST_BATCH, images // 8), images)
    return replace(hp, batch_size=batch_size, epochs=hp.epochs * SHORTEST_EPOCH / images)


def record_adaptation(
    sources: Mapping[str, dict[str, Any]], adapted: Hyperparameters, images: int
) -> dict[str, dict[str, Any]]:
    """Where each value came from, for model_info.json, with those that `adapt_to_size` changed; each is logged too.

    Args:
        sources: what `choose` returned.
        adapted: what `adapt_to_size` returned.
        images: how many there are to train with.
    """
    recorded = dict(sources)
    for name in ("batch_size", "epochs"):
        value, asked = getattr(adapted, name), sources[name]
        if value != asked["value"]:
            recorded[name] = {"value": value, "source": "number of training images", "instead_of": asked}
    if "instead_of" in recorded["batch_size"]:
        asked, value = sources["batch_size"]["value"], adapted.batch_size
        log.info("batch_size = %d is too large for %d training images: %d is used.", asked, images, value)
    if "instead_of" in recorded["epochs"]:
        asked, seen = sources["epochs"]["value"], adapted.epochs * images
        log.info(
            "epochs = %g is too short for %d training images: %.4g epochs, which see %.0f images, are trained.",
            asked,
            images,
            adapted.epochs,
            seen,
        )
    return recorded
