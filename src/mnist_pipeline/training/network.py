"""The network, and nothing else."""

import copy
from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Mean and standard deviation of MNIST's 60,000 training images, scaled to 0..1 (torchvision's MNIST example).
MEAN, STD = 0.1307, 0.3081
BORDER = 4  # pixels that a crop leaves out on each side, and so one of fc1's input: two poolings lie between


class DigitNetwork(nn.Module):
    """Two parallel and two sequential 3x3 convolutions behind a first one, then three linear layers.

    Every convolution is followed by BatchNorm (which takes the place of its bias and folds away for serving) and ReLU.
    `mean` and `std` of the training images' pixels, 0..1, are one for each channel; `image_size` is a multiple of 4.

    `temperature` scales the last layer: in evaluation mode the logits are divided by it, so that their softmax is
    calibrated. It is 1 until training/temperature.py fits it on validation images. Nobody else divides by it.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor

    def __init__(
        self, classes: int = 10, mean: Sequence[float] = (MEAN,), std: Sequence[float] = (STD,), image_size: int = 28
    ) -> None:
        super().__init__()
        self.conv1 = convolution(len(mean), 32)
        self.conv2_1 = convolution(32, 64)
        self.conv2_2 = convolution(32, 64)
        self.conv3_1 = convolution(64, 512)
        self.conv3_2 = convolution(512, 512)
        self.fc1 = nn.Linear(512 * (image_size // 4) ** 2, 1000)  # two poolings lie before it
        self.fc2 = nn.Linear(1000, 500)
        self.output_layer = nn.Linear(500, classes)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of uint8 images (N, C, S, S), in evaluation mode divided by the temperature.

        The shapes below are those of MNIST's. A network that `cropped` made takes what `crop` leaves of the images.
        """
        x = (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        x = F.max_pool2d(self.conv1(x), 2)  # (N, 32, 14, 14)
        x = F.max_pool2d(self.conv2_1(x) + self.conv2_2(x), 2)  # (N, 64, 7, 7)
        x = self.conv3_2(self.conv3_1(x))  # (N, 512, 7, 7)
        x = x.permute(0, 2, 3, 1).flatten(1)  # (N, 7 * 7 * 512), as channels-last tensors lie in memory: no copy
        x = F.relu(self.fc1(x))  # (N, 1000)
        x = F.relu(self.fc2(x))  # (N, 500)
        logits = self.output_layer(x)  # (N, classes)
        return logits if self.training else logits / self.temperature

    def cropped(self) -> "DigitNetwork":
        """A copy for images that `crop` has cut: its fc1 lacks the weights of the border."""
        network = copy.deepcopy(self)
        network.fc1.weight = nn.Parameter(middle(self.fc1.weight).detach().flatten(1).clone())
        return network

    @torch.no_grad()
    def load_cropped(self, network: "DigitNetwork") -> None:
        """Take over the weights and buffers of a network that `cropped` made; those of fc1's border stay."""
        sources = network.state_dict()
        for name, target in self.state_dict().items():
            embed(sources[name], target)


def crop(images: Tensor) -> Tensor:
    """The middle of images: (N, C, S, S) -> (N, C, S - 8, S - 8)."""
    return images[:, :, BORDER:-BORDER, BORDER:-BORDER]


def middle(weight: Tensor) -> Tensor:
    """Of fc1's weights (1000, 7 * 7 * 512) those for the middle of its input, a view: (1000, 5, 5, 512)."""
    side = isqrt(weight.shape[1] // 512)
    return weight.view(-1, side, side, 512)[:, 1:-1, 1:-1]


def embed(source: Tensor, target: Tensor) -> Tensor:
    """Copy `source` to all of `target`, or to fc1's middle where it is smaller; returns `target`."""
    place = target if target.shape == source.shape else middle(target)
    place.copy_(source.view(place.shape))
    return target


def convolution(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3 convolution that keeps height and width, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )
