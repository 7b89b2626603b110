"""Logits of any number of images, and how many of them are right."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from mnist_pipeline.training.runtime import autocast

BATCH = 500  # images per forward pass without gradients; a larger batch is not faster on a CPU


@torch.inference_mode()
def predict(network: nn.Module, images: Tensor, *, fp32: bool = False) -> Tensor:
    """Logits of any number of images, a batch at a time, with the network in evaluation mode.

    Args:
        network: on the device that is to compute; its mode is restored.
        images: uint8 (N, 1, 28, 28), or (N, 1, 20, 20) for a cropped network; on any device.
        fp32: compute in fp32 even where bfloat16 is faster.

    Returns:
        float32 (N, classes), on the CPU.
    """
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with nullcontext() if fp32 else autocast(device):
        logits = [network(batch.to(device)).float().cpu() for batch in images.split(BATCH)]
    network.train(training)
    return torch.cat(logits)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of the images whose largest logit is their label's, 0..1. Logits (N, classes), labels (N,)."""
    return (logits.argmax(1) == labels).float().mean().item()
