"""The one training loop: tune, train and the benchmarks all call `fit`."""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mnist_pipeline.console import PipelineError
from mnist_pipeline.data.dataset import Dataset, Examples
from mnist_pipeline.training import winograd
from mnist_pipeline.training.augmentation import augment
from mnist_pipeline.training.checkpoint import Checkpoint
from mnist_pipeline.training.hyperparameters import HyperparameterError, Hyperparameters
from mnist_pipeline.training.inference import accuracy
from mnist_pipeline.training.network import DigitNetwork
from mnist_pipeline.training.runtime import best_device
from mnist_pipeline.training.step import Learner

log = logging.getLogger(__name__)

# Purposes of a training's random streams.
ORDER, AUGMENTATION = 0, 1


class Diverged(PipelineError):
    """The loss is no longer a finite number; the message says at which step, learning rate and batch."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured after some of the steps."""

    number: int  # from 1
    step: int  # optimizer steps done
    images: int  # training images seen
    seconds: float  # of training, resumed runs included, evaluations left out
    lr: float  # of the last step
    loss: float  # mean training loss since the last evaluation
    validation_accuracy: float  # 0..1


def new_network(dataset: Dataset, seed: int) -> DigitNetwork:
    """An untrained network for a dataset, on the best device; equal seeds give equal weights."""
    torch.manual_seed(seed)
    return DigitNetwork(len(dataset.class_names), dataset.mean, dataset.std, dataset.image_size).to(best_device())


def fit(
    network: DigitNetwork,
    train: Examples,
    validation: Examples,
    hyperparameters: Hyperparameters,
    *,
    seed: int = 0,
    evaluations: int = 10,
    on_evaluation: Callable[[Evaluation], None] = lambda evaluation: None,
    checkpoint: Checkpoint | None = None,
    description: str | None = None,
) -> list[Evaluation]:
    """Train a network in place, on its device; where a checkpoint of the same training is found, resume from it.

    All randomness follows from the seed and the step, so a resumed training ends with the same weights as an
    uninterrupted one, byte for byte (on a GPU, whose sums change their order, with equally good ones). Afterwards
    conv3_2 is a WinogradConv2d; in evaluation mode the network computes what it did before.

    Args:
        train, validation: images to train and to evaluate with; validation images are cropped as long as those are.
        evaluations: how often to evaluate, evenly spaced; the last one is at the end.
        on_evaluation: called with each; what it raises ends the training.
        description: of the progress bar; None shows none.

    Raises:
        Diverged: the loss became NaN or infinite.
        HyperparameterError: a batch has more images than there are.
    """
    hp, device = hyperparameters, next(network.parameters()).device
    progress, learner = start_or_resume(network, hp, len(train.images), checkpoint)
    train = Examples(train.images.to(device), train.labels.to(device))
    evaluation_steps = {round(progress.steps * (k + 1) / evaluations) for k in range(evaluations)}
    start, saved = time.perf_counter() - progress.seconds, time.perf_counter()
    hidden = None if description else True  # None: where the output is no terminal
    with tqdm(total=progress.steps, initial=progress.step, desc=description, unit="step", disable=hidden) as bar:
        while progress.step < progress.steps:
            lr = hp.lr_at(progress.step / progress.steps)
            loss = learner.step(batch_at(progress.step, train, hp, seed), lr)
            if not math.isfinite(loss):
                raise Diverged(
                    f"the loss became {loss} at step {progress.step} of {progress.steps} (learning rate {lr:.3g}, "
                    f"batch of {hp.batch_size}, {hp.optimizer}); try a smaller learning rate first"
                )
            progress.losses.append(loss)
            progress.step += 1
            if learner.cropped and progress.step == hp.cropped_steps(progress.steps):
                learner.grow()
            progress.seconds = time.perf_counter() - start
            bar.set_postfix(loss=f"{loss:.3f}", validation=progress.last_accuracy, refresh=False)
            bar.update()
            if progress.step in evaluation_steps:
                score = accuracy(learner.predict(validation.images), validation.labels)
                on_evaluation(progress.add_evaluation(hp, lr, score))
                start = time.perf_counter() - progress.seconds  # evaluating is not training
            if checkpoint and time.perf_counter() - saved >= checkpoint.seconds:
                checkpoint.save({"progress": asdict(progress), "learner": learner.state_dict()})
                saved = time.perf_counter()
    return progress.evaluations


def start_or_resume(
    network: DigitNetwork, hp: Hyperparameters, images: int, checkpoint: Checkpoint | None
) -> tuple["Progress", Learner]:
    """A training's progress and its learner: of its checkpoint, if there is one."""
    if hp.batch_size > images:
        raise HyperparameterError(f"batch_size = {hp.batch_size}, but there are {images} training images")
    network.to(memory_format=torch.channels_last).train()
    winograd.convert(network)
    state = checkpoint.load() if checkpoint else None
    progress = Progress.from_state(state["progress"]) if state else Progress(hp.steps(images))
    learner = Learner(network, hp, cropped=progress.step < hp.cropped_steps(progress.steps))
    if state:
        learner.load_state_dict(state["learner"])
        log.info("resuming at step %d of %d", progress.step, progress.steps)
    return progress, learner


@dataclass
class Progress:
    """How far a training has come: what a checkpoint keeps next to the learner's state."""

    steps: int  # of the whole training
    step: int = 0  # done
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)  # of each step done
    evaluations: list[Evaluation] = field(default_factory=list)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Progress":
        """From what `asdict` made of one."""
        return cls(**state | {"evaluations": [Evaluation(**evaluation) for evaluation in state["evaluations"]]})

    @property
    def last_accuracy(self) -> str:
        """The accuracy of the last evaluation, for the progress bar."""
        return f"{self.evaluations[-1].validation_accuracy:.2%}" if self.evaluations else "-"

    def add_evaluation(self, hp: Hyperparameters, lr: float, validation_accuracy: float) -> Evaluation:
        """Append an evaluation of the steps done, and return it."""
        recent = self.losses[self.evaluations[-1].step if self.evaluations else 0 :]
        evaluation = Evaluation(
            number=len(self.evaluations) + 1,
            step=self.step,
            images=self.step * hp.batch_size,
            seconds=self.seconds,
            lr=lr,
            loss=sum(recent) / len(recent),
            validation_accuracy=validation_accuracy,
        )
        self.evaluations.append(evaluation)
        return evaluation


def fingerprint(dataset: Dataset, settings: Mapping[str, Any]) -> str:
    """SHA-256 of what determines a training's result: settings, data, PyTorch, and the code but for its users."""
    users = ("train.py", "model.py", "model_info.py", "temperature.py")
    paths = sorted(Path(__file__).parent.glob("*.py"))
    content = {
        "settings": settings,
        "data": dataset.checksums,
        "validation images": hashlib.sha256(dataset.validation.images.numpy().tobytes()).hexdigest(),
        "code": [path.read_text(encoding="utf-8") for path in paths if path.name not in users],
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def batch_at(step: int, train: Examples, hp: Hyperparameters, seed: int) -> Examples:
    """The batch of a step, augmented: a function of the seed and the step alone, so that a training can resume."""
    steps_per_epoch = len(train.images) // hp.batch_size  # the images left over at an epoch's end differ each time
    epoch, position = divmod(step, steps_per_epoch)
    order = epoch_order(len(train.images), epoch, seed, train.images.device)
    index = order[position * hp.batch_size :][: hp.batch_size]
    generator = torch.Generator(train.images.device).manual_seed(stream_seed(seed, AUGMENTATION, step))
    return Examples(augment(train.images[index], hp, generator), train.labels[index])


@lru_cache(maxsize=1)
def epoch_order(count: int, epoch: int, seed: int, device: torch.device) -> Tensor:
    """In which order an epoch visits the images, the same on every device: int64 (count,)."""
    generator = torch.Generator().manual_seed(stream_seed(seed, ORDER, epoch))
    return torch.randperm(count, generator=generator).to(device)


def stream_seed(seed: int, purpose: int, index: int) -> int:
    """The seed of one of a training's random streams, which are independent of each other."""
    return int(np.random.SeedSequence((seed, purpose, index)).generate_state(1, np.uint64)[0])
