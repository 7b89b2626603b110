"""One training step, and all that it needs: the network and its optimizer."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_pipeline.data.dataset import Examples
from mnist_pipeline.training import inference
from mnist_pipeline.training.hyperparameters import WEIGHT_DECAY, Hyperparameters
from mnist_pipeline.training.network import DigitNetwork, crop, embed
from mnist_pipeline.training.runtime import autocast

OUTLIER = -1  # the label of an image that is of no class


class Learner:
    """Trains a network, one batch at a time.

    A cropped learner trains a smaller copy of the network on the images without their border: of MNIST's 28x28 on the
    middle 20x20 pixels, which is half the work, with two fifths of the weights out of the way. MNIST's digits fill just
    these pixels. `grow` goes on to full images.
    """

    def __init__(self, network: DigitNetwork, hp: Hyperparameters, *, cropped: bool = False) -> None:
        self.hp, self.cropped = hp, cropped
        self.full_network = network
        self.network = network.cropped() if cropped else network
        self.optimizer = make_optimizer(self.network, hp)

    def step(self, batch: Examples, lr: float) -> float:
        """Train on a batch of full images, and return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        images = self.prepare(batch.images).contiguous(memory_format=torch.channels_last)
        with autocast(images.device):
            logits = self.network(images)
        loss = open_set_loss(logits.float(), batch.labels, self.hp.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def predict(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of full images, on the CPU."""
        return inference.predict(self.network, self.prepare(images))

    def prepare(self, images: Tensor) -> Tensor:
        """What the network sees of full images."""
        return crop(images) if self.cropped else images

    def grow(self) -> None:
        """Go on to full images: weights and optimizer state are kept, those of the border start as if never trained."""
        optimizer = make_optimizer(self.full_network, self.hp)
        self.full_network.load_cropped(self.network)
        sources = dict(self.network.named_parameters())
        for name, target in self.full_network.named_parameters():
            source = sources[name]
            for key, value in self.optimizer.state[source].items():
                grows = value.shape == source.shape != target.shape
                optimizer.state[target][key] = embed(value, torch.zeros_like(target)) if grows else value
        self.network, self.optimizer, self.cropped = self.full_network, optimizer, False

    def state_dict(self) -> dict[str, Any]:
        """The state of network and optimizer."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a learner that was cropped or full as this one is."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def open_set_loss(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """The cross-entropy with one class more, "none of them", whose logit is always 0; its label is OUTLIER.

    The network's outputs stay the classes. Their logits rise above 0 together for what is of a class and fall below for
    what is of none, so log(sum(exp(logits))) says whether the network knows what it sees.
    """
    targets = torch.where(labels == OUTLIER, logits.shape[1], labels)
    return F.cross_entropy(F.pad(logits, (0, 1)), targets, label_smoothing=label_smoothing)


def make_optimizer(network: nn.Module, hp: Hyperparameters) -> torch.optim.Optimizer:
    """The optimizer by its name; fused where PyTorch has it, one pass over the weights instead of several."""
    parameters = list(network.parameters())
    decay = WEIGHT_DECAY[hp.optimizer] if hp.weight_decay is None else hp.weight_decay
    if hp.optimizer == "adam":
        return torch.optim.AdamW(parameters, hp.lr, weight_decay=decay, fused=True)
    if hp.optimizer == "sgd":
        return torch.optim.SGD(parameters, hp.lr, hp.momentum, weight_decay=decay, nesterov=hp.momentum > 0, fused=True)
    return torch.optim.RMSprop(parameters, hp.lr, weight_decay=decay, foreach=True)
