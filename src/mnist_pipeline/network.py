"""The network of the README's table, and nothing else. It travels in the archive, so it imports torch alone."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Mean and standard deviation of MNIST's 60,000 training images, scaled to 0..1 (torchvision's MNIST example).
MEAN, STD = 0.1307, 0.3081


class DigitNetwork(nn.Module):
    """Two parallel and two sequential 3x3 convolutions behind a first one, then three linear layers.

    Every convolution is followed by BatchNorm (which takes the place of its bias and folds away for
    serving) and ReLU.

    Args:
        classes: number of classes, at least 2.
        mean: mean pixel of the training images, 0..1.
        std: standard deviation of the pixels, above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, classes: int = 10, mean: float = MEAN, std: float = STD) -> None:
        super().__init__()
        self.conv1 = convolution(1, 32)
        self.conv2_1 = convolution(32, 64)
        self.conv2_2 = convolution(32, 64)
        self.conv3_1 = convolution(64, 512)
        self.conv3_2 = convolution(512, 512)
        self.fc1 = nn.Linear(512 * 7 * 7, 1000)
        self.fc2 = nn.Linear(1000, 500)
        self.output_layer = nn.Linear(500, classes)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images.

        Args:
            images: uint8 (N, 1, 28, 28), 0 (paper) to 255 (ink); (N, 1, 20, 20) where `cropping` has cut fc1.

        Returns:
            float (N, classes): unnormalised log-probabilities.
        """
        x = (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        x = F.max_pool2d(self.conv1(x), 2)  # (N, 32, 14, 14)
        x = F.max_pool2d(self.conv2_1(x) + self.conv2_2(x), 2)  # (N, 64, 7, 7)
        x = self.conv3_2(self.conv3_1(x))  # (N, 512, 7, 7)
        x = x.permute(0, 2, 3, 1).flatten(1)  # (N, 7 * 7 * 512), as channels-last tensors lie in memory: no copy
        x = F.relu(self.fc1(x))  # (N, 1000)
        x = F.relu(self.fc2(x))  # (N, 500)
        return self.output_layer(x)  # (N, classes)


def convolution(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3 convolution that keeps height and width, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )
