"""The hyperparameters of a training, and where the value of each one came from."""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mnist_pipeline.console import PipelineError
from mnist_pipeline.training.augmentation import Augmentation

# The default weight decay of each optimizer, as the coefficient that PyTorch's class takes. AdamW and SGD shrink the
# weights by learning rate times coefficient at every step, and SGD's learning rate is some 50 times AdamW's.
WEIGHT_DECAY = {"adam": 0.05, "rmsprop": 0.001, "sgd": 0.001}
SHORTEST_EPOCH = 5_000  # images: fewer are seen several times in an epoch
SMALLEST_BATCH = 16  # images: a step of fewer takes nearly as long, and BatchNorm's averages are noisier

log = logging.getLogger(__name__)


class HyperparameterError(PipelineError):
    """A hyperparameter that training cannot use; the message says its name, its value and what would be right."""


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """What decides how the network is trained; params.yaml has each one's meaning and range.

    `outliers` and `digit_forms` are of the final training alone: generated.py adds them to the images.
    """

    optimizer: str = "sgd"
    lr: float = 0.05
    batch_size: int = 64
    momentum: float = 0.9
    epochs: float = 5.0
    warmup: float = 0.25
    weight_decay: float | None = None  # None: WEIGHT_DECAY of the optimizer
    label_smoothing: float = 0.05
    crop: float = 0.0
    rotation: float = 0.0
    translation: float = 0.0
    scaling: float = 0.0
    elasticity: float = 0.0
    flip: float = 0.0
    outliers: float = 0.0
    digit_forms: float = 0.0

    @property
    def augmentation(self) -> Augmentation:
        """The random change of the training images."""
        return Augmentation(
            rotation=self.rotation,
            translation=self.translation,
            scaling=self.scaling,
            elasticity=self.elasticity,
            flip=self.flip,
        )

    def steps(self, images: int) -> int:
        """Optimizer steps that the epochs take over so many training images."""
        return max(1, round(self.epochs * images / self.batch_size))

    def lr_at(self, progress: float) -> float:
        """Learning rate when `progress` (0..1) of the steps are done: a linear rise, then a cosine's fall.

        The one-cycle policy of Smith & Topin (2018).
        """
        if progress < self.warmup:
            return self.lr * (0.04 + 0.96 * progress / self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))


def resolve(
    given: Mapping[str, Any], tuned: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[Hyperparameters, dict[str, dict[str, Any]]]:
    """Each hyperparameter: the value given, else the tuned one, else the dataset's default, else the general default.

    Where no weight decay is given or was found, it is the default of the optimizer.

    Args:
        given: values by name; None gives none.
        tuned: values by name.
        defaults: those of the dataset, by name.

    Returns:
        The hyperparameters, and for each name its value and where it came from.
    """
    candidates = {
        "params.yaml": given,
        "tune": tuned,
        "dataset": defaults,
        "default": asdict(Hyperparameters()),
    }
    sources: dict[str, dict[str, Any]] = {}
    for name in candidates["default"]:
        found = (source for source, values in candidates.items() if values.get(name) is not None)
        source = next(found, "default")  # the general default of weight_decay is None
        sources[name] = {"value": candidates[source][name], "source": source}
    resolved = Hyperparameters(**{name: source["value"] for name, source in sources.items()})
    if resolved.weight_decay is None:  # stays so in `resolved`: a study's trials differ in their optimizer
        sources["weight_decay"] = {"value": WEIGHT_DECAY[resolved.optimizer], "source": "optimizer"}
    return resolved, sources


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
        sources: what `resolve` returned.
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
