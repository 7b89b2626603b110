"""The one training loop: tune, train and the benchmarks all call `fit`."""

import gc
import inspect
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from mnist_pipeline import augmentation, compute, cropping, winograd
from mnist_pipeline import network as network_module
from mnist_pipeline.augmentation import Augmentation
from mnist_pipeline.checkpoint import Checkpoint
from mnist_pipeline.compute import accuracy, autocast, keep_freed_memory, predict
from mnist_pipeline.data import Examples
from mnist_pipeline.errors import PipelineError
from mnist_pipeline.network import DigitNetwork

log = logging.getLogger(__name__)

# The default weight decay of each optimizer, as the coefficient that PyTorch's class takes. AdamW and SGD shrink the
# weights by learning rate times coefficient at every step, and SGD's learning rate is some 50 times AdamW's.
WEIGHT_DECAY = {"adam": 0.05, "rmsprop": 0.001, "sgd": 0.001}
# Purposes of a training's random streams.
ORDER, AUGMENTATION = 0, 1


class HyperparameterError(PipelineError):
    """A hyperparameter that training cannot use; the message says its name, its value and what would be right."""


class Diverged(PipelineError):
    """The loss is no longer a finite number; the message says at which step, learning rate and batch."""


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """What decides how the network learns; params.yaml has each one's meaning and range."""

    optimizer: str = "adam"
    lr: float = 1.5e-3
    batch_size: int = 64
    momentum: float = 0.9
    epochs: float = 1.0
    warmup: float = 0.25
    weight_decay: float | None = None  # None: WEIGHT_DECAY of the optimizer
    label_smoothing: float = 0.05
    crop: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)

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


@dataclass(frozen=True)
class Report:
    """Where a training stands.

    Attributes:
        step: optimizer steps done.
        images: training images seen.
        seconds: time spent training, resumed runs included, validation left out.
        lr: learning rate of the last step.
        loss: mean training loss since the last report.
        validation_accuracy: 0..1.
    """

    step: int
    images: int
    seconds: float
    lr: float
    loss: float
    validation_accuracy: float


def fit(
    network: DigitNetwork,
    train: Examples,
    validation: Examples,
    hyperparameters: Hyperparameters,
    *,
    seed: int = 0,
    reports: int = 10,
    on_report: Callable[[Report], None] = lambda report: None,
    checkpoint: Checkpoint | None = None,
    checkpoint_seconds: float = 10.0,
    description: str | None = None,
) -> list[Report]:
    """Train a network in place; where a checkpoint of the same training is found, go on from it.

    All randomness follows from the seed and the step, so a resumed training ends with the very weights of an
    uninterrupted one (on a GPU, whose sums change their order, with ones as good).

    Args:
        network: on the device that shall train it; where a checkpoint is found, with its first weights.
        train: images to learn from, kept on the device.
        validation: images to measure with, at each report; cropped as long as the training images are.
        hyperparameters: how to learn.
        seed: of the images' order and their augmentation.
        reports: how often to measure, evenly spaced; the last one is at the end.
        on_report: called with each; what it raises ends the training.
        checkpoint: where to keep the state of an unfinished training.
        checkpoint_seconds: time between two savings.
        description: of the progress bar; None shows none.

    Returns:
        The reports, oldest first.

    Raises:
        Diverged: the loss became NaN or infinite.
        HyperparameterError: a batch has more images than there are, or the optimizer is unknown.
    """
    hp, device = hyperparameters, next(network.parameters()).device
    if hp.batch_size > len(train.images):
        raise HyperparameterError(f"batch_size = {hp.batch_size}, but there are {len(train.images)} training images")
    keep_freed_memory()
    train = Examples(train.images.to(device), train.labels.to(device))
    release(network.to(memory_format=torch.channels_last).train())
    run = Run(steps=hp.steps(len(train.images)))
    if checkpoint and (found := checkpoint.load()):
        run = Run.of(found)
    cropped_steps = math.ceil(hp.crop * run.steps)
    whole, network = network, cropping.cropped(network) if run.step < cropped_steps else network
    optimizer = make_optimizer(network, hp)
    if checkpoint and run.step:
        restore(checkpoint, network, optimizer)
        log.info("going on at step %d of %d", run.step, run.steps)
    captured = False  # on a GPU, a phase's first batch captures the network
    report_steps = {round(run.steps * (k + 1) / reports) for k in range(reports)}
    # Reading a loss makes a GPU wait: there, losses gather on the device and are read now and then.
    read_every = 1 if device.type == "cpu" else 100
    unread: list[Tensor] = []
    begun, saved = time.perf_counter() - run.seconds, time.perf_counter()
    hidden = True if description is None else None  # None: hidden where the output is no terminal
    bar = tqdm(total=run.steps, initial=run.step, desc=description, unit="step", disable=hidden)

    while run.step < run.steps:
        lr = hp.lr_at(run.step / run.steps)
        batch = batch_at(run.step, train, hp, seed)
        if network is not whole:
            batch = Examples(cropping.crop(batch.images), batch.labels)
        if device.type == "cuda" and not captured:
            capture(network, batch.images.contiguous(memory_format=torch.channels_last))
            captured = True
        unread.append(learn(network, optimizer, batch, lr, hp.label_smoothing))
        run.step += 1
        bar.update()
        if run.step == cropped_steps:  # what the border adds is learnt last
            small, learnt = network, optimizer
            network, optimizer, captured = whole, make_optimizer(whole, hp), False
            cropping.grow(small, learnt, network, optimizer)
            release(small)
            del small, learnt

        reporting = run.step in report_steps
        saving = checkpoint and time.perf_counter() - saved >= checkpoint_seconds
        if reporting or saving or len(unread) == read_every or run.step == run.steps:
            run.read(unread, hp)
            run.seconds = time.perf_counter() - begun
            bar.set_postfix(run.figures(hp), refresh=False)
        if reporting:
            seen = validation.images if network is whole else cropping.crop(validation.images)
            on_report(run.report(hp, lr, accuracy(predict(network, seen), validation.labels)))
            begun = time.perf_counter() - run.seconds  # measuring is not training
        if checkpoint and saving:
            checkpoint.save(state_of(network, optimizer), asdict(run))
            saved = time.perf_counter()
    bar.close()
    release(network)
    return run.history


@dataclass
class Run:
    """How far a training has come: what a checkpoint keeps beside the tensors."""

    steps: int
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    history: list[Report] = field(default_factory=list)

    @classmethod
    def of(cls, progress: Mapping[str, Any]) -> "Run":
        """From a checkpoint's progress."""
        return cls(**{**progress, "history": [Report(**report) for report in progress["history"]]})

    def read(self, unread: list[Tensor], hp: Hyperparameters) -> None:
        """Take losses over from the device; one that is not finite ends the training."""
        for loss in torch.stack(unread).tolist():
            step = len(self.losses)
            if not math.isfinite(loss):
                raise Diverged(
                    f"the loss became {loss} at step {step} of {self.steps} (learning rate "
                    f"{hp.lr_at(step / self.steps):.3g}, batch of {hp.batch_size}, {hp.optimizer}); "
                    "try a smaller learning rate first"
                )
            self.losses.append(loss)
        unread.clear()

    def figures(self, hp: Hyperparameters) -> dict[str, str]:
        """What the progress bar shows."""
        score = f"{self.history[-1].validation_accuracy:.2%}" if self.history else "-"
        speed = self.step * hp.batch_size / self.seconds
        return {
            "loss": f"{self.losses[-1]:.3f}",
            "validation": score,
            "images/s": f"{speed:.0f}",
        }

    def report(self, hp: Hyperparameters, lr: float, score: float) -> Report:
        """Add a report to the history, and return it."""
        since = self.losses[self.history[-1].step if self.history else 0 :]
        mean = sum(since) / len(since)
        self.history.append(Report(self.step, self.step * hp.batch_size, self.seconds, lr, mean, score))
        return self.history[-1]


def code() -> list[str]:
    """The source of all that a training's outcome depends on beside its arguments."""
    modules = (sys.modules[__name__], augmentation, compute, cropping, network_module, winograd)
    return [inspect.getsource(module) for module in modules]


def batch_at(step: int, train: Examples, hp: Hyperparameters, seed: int) -> Examples:
    """The batch of a step, augmented: a function of the seed and the step alone, so that a training can resume."""
    a_pass = len(train.images) // hp.batch_size  # what is left over at a pass's end is other images each time
    epoch, position = divmod(step, a_pass)
    order = epoch_order(len(train.images), epoch, seed, train.images.device)
    index = order[position * hp.batch_size :][: hp.batch_size]
    generator = torch.Generator(train.images.device).manual_seed(stream_seed(seed, AUGMENTATION, step))
    return Examples(hp.augmentation(train.images[index], generator), train.labels[index])


@lru_cache(maxsize=1)
def epoch_order(count: int, epoch: int, seed: int, device: torch.device) -> Tensor:
    """In which order a pass visits the images, the same on every device: int64 (count,)."""
    generator = torch.Generator().manual_seed(stream_seed(seed, ORDER, epoch))
    return torch.randperm(count, generator=generator).to(device)


def stream_seed(seed: int, purpose: int, index: int) -> int:
    """Derive the seed of one of a training's random streams, which are independent of each other.

    Args:
        seed: the training's, 0 to 2**32 - 1.
        purpose: ORDER or AUGMENTATION.
        index: the epoch or the step, 0 to 2**32 - 1.

    Returns:
        0 to 2**64 - 1, the range of torch.Generator.manual_seed.
    """
    return int(np.random.SeedSequence((seed, purpose, index)).generate_state(1, np.uint64)[0])


def learn(
    network: nn.Module, optimizer: torch.optim.Optimizer, batch: Examples, lr: float, label_smoothing: float
) -> Tensor:
    """Make one step, and return its loss: on the device, which nothing here waits for."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    with autocast(batch.images.device), winograd.accelerated(network):
        logits = network(batch.images.contiguous(memory_format=torch.channels_last))
    loss = F.cross_entropy(logits.float(), batch.labels, label_smoothing=label_smoothing)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def make_optimizer(network: nn.Module, hp: Hyperparameters) -> torch.optim.Optimizer:
    """The optimizer by its name; fused where PyTorch has it, one pass over the weights instead of several."""
    if hp.optimizer not in WEIGHT_DECAY:
        raise HyperparameterError(f"optimizer = {hp.optimizer!r}, but it is one of {', '.join(WEIGHT_DECAY)}")
    parameters = list(network.parameters())
    decay = WEIGHT_DECAY[hp.optimizer] if hp.weight_decay is None else hp.weight_decay
    if hp.optimizer == "adam":
        return torch.optim.AdamW(parameters, hp.lr, weight_decay=decay, fused=True)
    if hp.optimizer == "sgd":
        return torch.optim.SGD(parameters, hp.lr, hp.momentum, weight_decay=decay, nesterov=hp.momentum > 0, fused=True)
    return torch.optim.RMSprop(parameters, hp.lr, weight_decay=decay, foreach=True)


def capture(network: nn.Module, images: Tensor) -> None:
    """Let a GPU run a training step's forward and backward pass as one CUDA graph each, until `release`.

    Launching a small network's kernels one by one takes longer than running them. Unlike torch.compile this wants no
    compiler on the machine, and no compilation for each trial of a study.

    Args:
        network: in training mode; in evaluation mode it goes on as before.
        images: of the shape, type and device of every later batch.
    """
    gc.collect()  # the graphs of networks that are gone; the collector must not find them in the middle of a capture
    before = [buffer.clone() for buffer in network.buffers()]
    with autocast(images.device, cache=False):
        torch.cuda.make_graphed_callables(network, (images,))
    for buffer, value in zip(network.buffers(), before, strict=True):
        buffer.copy_(value)  # capturing ran the network, and BatchNorm took its averages


def release(network: nn.Module) -> None:
    """Undo `capture`, which left a forward on the network itself."""
    vars(network).pop("forward", None)


def state_of(network: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All tensors that a training changes, in a fixed order."""
    moments = [state for states in optimizer.state.values() for state in states.values() if isinstance(state, Tensor)]
    return [*network.state_dict().values(), *moments]


def restore(checkpoint: Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Fill network and optimizer from a checkpoint that `load` found whole."""
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # makes the optimizer's state tensors, which the next line fills
    with torch.no_grad():
        checkpoint.restore(state_of(network, optimizer))
