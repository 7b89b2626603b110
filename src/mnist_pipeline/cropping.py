"""Training on the middle of the images first: half the work, and two fifths of the weights out of the way.

MNIST's digits fill the middle 20x20 pixels of 28x28. While a network sees only those, fc1 reads the middle 5x5 of its
7x7 input, so a network whose fc1 has just those weights learns the same; it grows into the whole one later.
"""

import copy

import torch
from torch import Tensor, nn

from mnist_pipeline.network import DigitNetwork

BORDER = 4  # pixels left out on each side, and so one of fc1's input: two poolings lie between


def crop(images: Tensor) -> Tensor:
    """The middle of images: (N, 1, 28, 28) -> (N, 1, 20, 20)."""
    return images[:, :, BORDER:-BORDER, BORDER:-BORDER]


def cropped(network: DigitNetwork) -> DigitNetwork:
    """A copy that takes cropped images: fc1's weights are those of the middle."""
    small = copy.deepcopy(network)
    small.fc1.weight = nn.Parameter(middle(network.fc1.weight).detach().flatten(1).clone())
    return small


def grow(
    small: DigitNetwork, learnt: torch.optim.Optimizer, network: DigitNetwork, fresh: torch.optim.Optimizer
) -> None:
    """Carry what a cropped network has learnt over into a whole one, whose border keeps its first weights.

    Args:
        small: what `cropped` made.
        learnt: its optimizer.
        network: gets the weights.
        fresh: its optimizer, which has not made a step; gets the other's state, with zeros for the border.
    """
    with torch.no_grad():
        for mine, its in zip(network.buffers(), small.buffers(), strict=True):
            mine.copy_(its)
        for mine, its in zip(network.parameters(), small.parameters(), strict=True):
            fill(mine, its)
            for name, value in learnt.state[its].items():
                fresh.state[mine][name] = value if value.shape != its.shape else fill(torch.zeros_like(mine), value)


def fill(whole: Tensor, part: Tensor) -> Tensor:
    """Write `part` over all of `whole`, or over fc1's middle where it is smaller; returns `whole`."""
    target = whole if whole.shape == part.shape else middle(whole)
    target.copy_(part.view(target.shape))
    return whole


def middle(weight: Tensor) -> Tensor:
    """Of fc1's weights (1000, 7 * 7 * 512) those for the middle of its input, a view: (1000, 5, 5, 512)."""
    return weight.view(-1, 7, 7, 512)[:, 1:-1, 1:-1]
