"""Logits of any number of images, and how many of them are right."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from mnist_pipeline.training.runtime import autocast

BATCH = 500  # images per forward pass without gradients, of at most 28x28; a larger batch is not faster on a CPU


@torch.inference_mode()
def predict(network: nn.Module, images: Tensor, *, fp32: bool = False) -> Tensor:
    """Logits, float32 (N, classes) on the CPU, of images uint8 (N, C, S, S) on any device, in evaluation mode."""
    device = next(network.parameters()).device
    batch = min(BATCH, BATCH * 28**2 // images.shape[-1] ** 2)  # as much memory for larger images
    training = network.training
    network.eval()
    with nullcontext() if fp32 else autocast(device):
        logits = [network(part.to(device)).float().cpu() for part in images.split(batch)]
    network.train(training)
    return torch.cat(logits)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of the images whose largest logit is their label's, 0..1. Logits (N, classes), labels (N,)."""
    return (logits.argmax(1) == labels).float().mean().item()
