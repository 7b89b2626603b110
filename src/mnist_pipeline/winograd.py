"""3x3 convolutions of many channels with a third to a fifth of the multiplications, for training on a CPU.

Cook and Toom's algorithm for short convolutions, in two dimensions as Winograd's is in Lavin & Gray (arXiv 1509.09308):
pixels and weights are brought to a basis in which a convolution is one product for each basis function, and back. Each
of the three changes of basis is one matrix product with a constant matrix; between them stands one batch of matrix
products, over the channels.

The price is rounding. In bfloat16 a result is off by one to six per cent of its size, where the plain convolution's
is by 0.3 (tests/test_winograd.py holds both to that); training does not feel it (docs/design.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LEAST_CHANNELS = 256  # with fewer, changing the basis takes longer than the multiplications saved

# For each height and width of the pictures: outputs of a tile along one axis, and the finite points of the basis,
# one more than outputs (the last of the outputs + 2 is infinity). Of all sets of simple fractions tried, those whose
# convolution in bfloat16 came nearest to the one in float64.
BASES: dict[int, tuple[int, tuple[float, ...]]] = {
    5: (5, (0.0, 0.5, -0.75, 1.0, -1.5, 2.0)),  # one tile: 49 products where the definition has 225
    7: (4, (0.0, 0.75, -0.75, 1.5, -1.5)),  # 2x2 tiles: 144 products where the definition has 441
}


def cook_toom(outputs: int, points: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices A, G, B such that A @ ((G @ w) * (B @ x)) correlates x (outputs + 2,) with w (3,).

    Args:
        outputs: length of the result.
        points: outputs + 1 different numbers, to which infinity is added.

    Returns:
        float64 A (outputs, outputs + 2), G (outputs + 2, 3), B (outputs + 2, outputs + 2).
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
def transforms(side: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The three changes of basis for square pictures with a border of one zero pixel.

    Returns:
        to_pixels (pixels, products * tiles), of_weights (products, 9), of_pixels (products * tiles, pixels).
    """
    outputs, points = BASES[side]
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
    of_pixels = np.einsum("pkh,qlw->pqklhw", reads, reads).reshape(-1, side * side)
    to_pixels = np.einsum("hpk,wql->hwpqkl", leaves, leaves).reshape(side * side, -1)
    of_weights = np.einsum("pr,qs->pqrs", g, g).reshape(-1, 9)
    to_pixels, of_weights, of_pixels = (torch.tensor(x, dtype=dtype) for x in (to_pixels, of_weights, of_pixels))
    return to_pixels, of_weights, of_pixels


class Convolution(torch.autograd.Function):
    """conv2d(x, weight, padding=1) for x (N, C, side, side) and weight (O, C, 3, 3) of one type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """(N, O, side, side), channels last."""
        (count, channels, side, _), out = x.shape, len(weight)
        to_pixels, of_weights, of_pixels = transforms(side, x.dtype)
        products = len(of_weights)
        v = (of_pixels @ pixels_first(x)).view(products, -1, channels)  # (products, tiles * N, C)
        u = (of_weights @ pixels_first(weight)).view(products, out, channels)  # (products, O, C)
        m = torch.bmm(v, u.transpose(1, 2))  # (products, tiles * N, O)
        ctx.save_for_backward(v, u)
        ctx.side = side
        return pixels_last(to_pixels @ m.view(-1, count * out), side, out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Of x and of the weight: the same products, read backwards."""
        (v, u), side = ctx.saved_tensors, ctx.side
        products, out, channels = u.shape
        to_pixels, of_weights, of_pixels = transforms(side, v.dtype)
        dm = (to_pixels.t() @ pixels_first(gradient)).view(products, -1, out)
        dv = torch.bmm(dm, u)
        du = torch.bmm(dm.transpose(1, 2), v)
        of_x = pixels_last(of_pixels.t() @ dv.view(len(of_pixels), -1), side, channels)
        return of_x, pixels_last(of_weights.t() @ du.view(products, -1), 3, channels)


def pixels_first(x: Tensor) -> Tensor:
    """(N, C, H, W) as a matrix (H * W, N * C)."""
    return x.permute(2, 3, 0, 1).reshape(x.shape[2] * x.shape[3], -1)


def pixels_last(x: Tensor, side: int, channels: int) -> Tensor:
    """A matrix (side * side, N * C) as (N, C, side, side), channels last."""
    return x.view(side, side, -1, channels).permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)


def convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What the layer does, by the fast algorithm where it is training on pictures of a side that has a basis."""
    if layer.training and x.shape[-1] in BASES and x.shape[-1] == x.shape[-2]:
        return Convolution.apply(x, layer.weight.to(x.dtype))
    return nn.Conv2d.forward(layer, x)


@contextmanager
def accelerated(network: nn.Module) -> Iterator[None]:
    """Within it, the wide 3x3 convolutions of a network on the CPU take fewer multiplications to train."""
    wide = [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d)
        and (layer.kernel_size, layer.padding, layer.stride, layer.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
        and (layer.groups, layer.bias) == (1, None)
        and min(layer.in_channels, layer.out_channels) >= LEAST_CHANNELS
        and layer.weight.device.type == "cpu"
    ]
    for layer in wide:
        layer.forward = partial(convolve, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in wide:
            del layer.forward
