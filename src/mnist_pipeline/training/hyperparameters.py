"""The hyperparameters of a training, and where the value of each one came from."""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from mnist_pipeline.console import PipelineError

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
    """What decides how the network is trained: each value's type, range, general default and meaning.

    settings.py checks the ranges in params.yaml; nothing here does.
    """

    optimizer: Literal["adam", "rmsprop", "sgd"] = "sgd"  # that is AdamW, RMSprop, or SGD with Nesterov's momentum
    lr: Annotated[float, Field(ge=1e-7, le=10)] = 0.05  # the schedule's peak
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 64  # images a step
    momentum: Annotated[float, Field(ge=0, le=0.999)] = 0.9  # of sgd
    epochs: Annotated[float, Field(ge=0.001, le=10_000)] = 5.0  # passes over the images
    warmup: Annotated[float, Field(ge=0, le=0.9)] = 0.25  # part of the steps in which the learning rate rises
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = None  # as PyTorch takes it; None: WEIGHT_DECAY
    label_smoothing: Annotated[float, Field(ge=0, le=0.5)] = 0.05  # probability given to the other classes
    crop: Annotated[float, Field(ge=0, le=0.95)] = 0.0  # part of the steps that see the images without their border
    # Random change of the training images (augmentation.py).
    rotation: Annotated[float, Field(ge=0, le=45)] = 0.0  # degrees at most, either way
    translation: Annotated[float, Field(ge=0, le=8)] = 0.0  # pixels at most, along each axis
    scaling: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # relative change of size at most
    elasticity: Annotated[float, Field(ge=0, le=8)] = 0.0  # pixels of local distortion, standard deviation
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0  # probability of a mirror image; for digits 0, a mirrored 2 is none
    # Generated images, for each training image; the final training alone has them (generated.py).
    outliers: Annotated[float, Field(ge=0, le=10)] = 0.0  # images of no class
    digit_forms: Annotated[float, Field(ge=0, le=10)] = 0.0  # digits in forms that MNIST lacks

    def steps(self, images: int) -> int:
        """Optimizer steps that the epochs take over so many training images."""
        return max(1, round(self.epochs * images / self.batch_size))

    def cropped_steps(self, steps: int) -> int:
        """How many of so many steps see the images without their border: the first ones."""
        return math.ceil(self.crop * steps)

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

    Where no weight decay is given or was found, it is the default of the optimizer. A value that is None is not given.

    Returns:
        The hyperparameters, and for each name its value and where it came from.
    """
    candidates = {"params.yaml": given, "tune": tuned, "dataset": defaults, "default": asdict(Hyperparameters())}
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
    """
    if images >= SHORTEST_EPOCH:
        return replace(hp, batch_size=min(hp.batch_size, images))
    batch_size = min(hp.batch_size, max(SMALLEST_BATCH, images // 8), images)
    return replace(hp, batch_size=batch_size, epochs=hp.epochs * SHORTEST_EPOCH / images)


def record_adaptation(
    sources: Mapping[str, dict[str, Any]], adapted: Hyperparameters, images: int
) -> dict[str, dict[str, Any]]:
    """Where each value came from, for model_info.json, with those that `adapt_to_size` changed; each is logged too."""
    recorded = dict(sources)
    for name, problem in (("batch_size", "large"), ("epochs", "short")):
        value, asked = getattr(adapted, name), sources[name]
        if value != asked["value"]:
            recorded[name] = {"value": value, "source": "number of training images", "instead_of": asked}
            message = "%s = %g is too %s for %d training images: %.4g is used."
            log.info(message, name, asked["value"], problem, images, value)
    return recorded
