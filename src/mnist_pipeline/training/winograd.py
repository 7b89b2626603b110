"""3x3 convolutions of many channels with a third to a fifth of the multiplications, for training on a CPU.

Winograd's minimal filtering F(m x m, 3 x 3) of Lavin & Gray (arXiv 1509.09308), with the matrices of Cook and Toom: two
transforms bring tiles of the input and the filters to a basis in which a convolution is one product for each basis
function; the output transform brings the products back. Each is one matrix product with a constant matrix; between them
stands one batch of matrix products, over the channels.

The price is rounding. In bfloat16 a result is off by one to six per cent of its size, where the plain convolution's
is by 0.3 (tests/unit/test_winograd.py holds both to that); training does not feel it (docs/design.md).
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnist_pipeline.training.network import DigitNetwork

Tile = tuple[int, tuple[float, ...]]
# m of F(m x m, 3 x 3), the outputs of a tile along one axis, and the finite points of the basis, one more than outputs
# (the last of the outputs + 2 is infinity). Of all sets of simple fractions tried, those whose convolution in bfloat16
# came nearest to the one in float64.
FOUR_OUTPUTS: Tile = (4, (0.0, 0.75, -0.75, 1.5, -1.5))
FIVE_OUTPUTS: Tile = (5, (0.0, 0.5, -0.75, 1.0, -1.5, 2.0))
# By height and width of the input. MNIST's are 7: 2x2 tiles, 144 products where the definition has 441; and 5 where the
# images are cropped: one tile, 49 products where it has 225. In fp32 the others too are 1.3 to 2.6 times as fast as the
# plain convolution, both ways (Zen 3).
TILES = dict.fromkeys(range(3, 17), FOUR_OUTPUTS) | {5: FIVE_OUTPUTS}


def cook_toom(outputs: int, points: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices A, G, B such that A @ ((G @ w) * (B @ x)) correlates x (outputs + 2,) with w (3,).

    `points` are outputs + 1 different numbers, to which infinity is added.
    """
    size = outputs + 2
    a, g, b = np.zeros((outputs, size)), np.zeros((size, 3)), np.zeros((size, size))
    for k, point in enumerate(points):
        others = [other for other in points if other != point]
        a[:, k] = point ** np.arange(outputs)
        g[k] = point ** np.arange(3) / np.prod([point - other for other in others])
        b[k, :-1] = np.poly(others)[::-1]
    a[-1, -1] = g[-1, -1] = 1
    b[-1] = np.poly(points)[::-1]
    return a, g, b


@lru_cache
def transforms(side: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The three transforms for square inputs with a border of one zero pixel; for the shapes see below."""
    outputs, points = TILES[side]
    a, g, b = cook_toom(outputs, points)
    tiles, size = -(-side // outputs), outputs + 2
    # Along one axis: which pixels a tile reads, and which it leaves.
    reads, leaves = np.zeros((size, tiles, side)), np.zeros((side, size, tiles))
    for tile in range(tiles):
        for pixel in range(side):
            if 0 <= (place := pixel + 1 - tile * outputs) < size:
                reads[:, tile, pixel] = b[:, place]
            if 0 <= (place := pixel - tile * outputs) < outputs:
                leaves[pixel, :, tile] = a[place]
    input_transform = np.einsum("pkh,qlw->pqklhw", reads, reads).reshape(-1, side * side)
    output_transform = np.einsum("hpk,wql->hwpqkl", leaves, leaves).reshape(side * side, -1)
    filter_transform = np.einsum("pr,qs->pqrs", g, g).reshape(-1, 9)
    # (products * tiles, pixels), (products, 9), (pixels, products * tiles)
    return tuple(torch.tensor(matrix, dtype=dtype) for matrix in (input_transform, filter_transform, output_transform))


class WinogradFunction(torch.autograd.Function):
    """conv2d(x, weight, padding=1) for x (N, C, side, side) and weight (O, C, 3, 3) of one type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """(N, O, side, side), channels last."""
        (count, channels, side, _), out = x.shape, len(weight)
        input_transform, filter_transform, output_transform = transforms(side, x.dtype)
        products = len(filter_transform)
        v = (input_transform @ pixels_first(x)).view(products, -1, channels)  # (products, tiles * N, C)
        u = (filter_transform @ pixels_first(weight)).view(products, out, channels)  # (products, O, C)
        m = torch.bmm(v, u.transpose(1, 2))  # (products, tiles * N, O)
        ctx.save_for_backward(v, u)
        ctx.side = side
        return pixels_last(output_transform @ m.view(-1, count * out), side, out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Of x and of the weight: the same products, read backwards."""
        (v, u), side = ctx.saved_tensors, ctx.side
        products, out, channels = u.shape
        input_transform, filter_transform, output_transform = transforms(side, v.dtype)
        dm = (output_transform.t() @ pixels_first(gradient)).view(products, -1, out)
        dv = torch.bmm(dm, u)
        du = torch.bmm(dm.transpose(1, 2), v)
        of_x = pixels_last(input_transform.t() @ dv.view(len(input_transform), -1), side, channels)
        return of_x, pixels_last(filter_transform.t() @ du.view(products, -1), 3, channels)


def pixels_first(x: Tensor) -> Tensor:
    """(N, C, H, W) as a matrix (H * W, N * C)."""
    return x.permute(2, 3, 0, 1).reshape(x.shape[2] * x.shape[3], -1)


def pixels_last(x: Tensor, side: int, channels: int) -> Tensor:
    """A matrix (side * side, N * C) as (N, C, side, side), channels last."""
    return x.view(side, side, -1, channels).permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)


class WinogradConv2d(nn.Conv2d):
    """A Conv2d that in training mode, on the CPU, for square inputs of a side in TILES, takes the fast algorithm."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, S, S) -> (N, out_channels, S, S)."""
        if self.training and x.device.type == "cpu" and x.shape[-1] in TILES:
            return WinogradFunction.apply(x, self.weight.to(x.dtype))
        return super().forward(x)


def convert(network: DigitNetwork) -> None:
    """Have the network's widest convolution, conv3_2, take the fast algorithm in training.

    The others have too few channels: the transforms would take longer than the multiplications saved. The weights are
    the same object and keep their name, so optimizers and state dictionaries stay valid.
    """
    plain = network.conv3_2[0]
    assert isinstance(plain, nn.Conv2d)
    fast = WinogradConv2d(plain.in_channels, plain.out_channels, 3, padding=1, bias=False, device="meta")
    fast.weight = plain.weight
    network.conv3_2[0] = fast.train(plain.training)
