import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mnist_pipeline.training import winograd
from mnist_pipeline.training.network import DigitNetwork

# Of the convolution's result and of both gradients, against the definition in float64. bfloat16 keeps 8 bits, and the
# transforms of a large tile lose some of them.
TOLERANCE = {
    **{(side, torch.float32): 1e-5 for side in winograd.TILES},
    **{(5, torch.bfloat16): 0.065, (7, torch.bfloat16): 0.02, (8, torch.bfloat16): 0.02},
}
PLAIN = {torch.float32: 1e-5, torch.bfloat16: 0.005}  # 0.0046 where bfloat16 is emulated


@pytest.mark.parametrize(("outputs", "points"), [winograd.FOUR_OUTPUTS, winograd.FIVE_OUTPUTS])
def test_three_taps_are_correlated_with_a_product_for_each_point(outputs: int, points: tuple[float, ...]) -> None:
    a, g, b = winograd.cook_toom(outputs, points)
    x, w = np.random.default_rng(0).normal(size=outputs + 2), np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(a @ ((g @ w) * (b @ x)), np.correlate(x, w), atol=1e-9)


@pytest.mark.parametrize(("side", "kind"), TOLERANCE)
def test_it_is_the_convolution_both_ways(side: int, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    x, gradient = torch.randn(3, 512, side, side).relu(), torch.randn(3, 512, side, side)  # as conv3_2 has them
    weight = torch.randn(512, 512, 3, 3)

    def both_ways(convolve: Callable[..., torch.Tensor], kind: torch.dtype) -> list[Any]:
        own_x, own_weight = (value.to(kind, copy=True).requires_grad_() for value in (x, weight))
        result = convolve(own_x, own_weight)
        result.backward(gradient.to(kind))
        return [result, own_x.grad, own_weight.grad]

    def plain(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, weight, padding=1)

    exact = both_ways(plain, torch.float64)
    for convolve, tolerance in ((winograd.WinogradFunction.apply, TOLERANCE[side, kind]), (plain, PLAIN[kind])):
        for found, expected in zip(both_ways(convolve, kind), exact, strict=True):
            assert (found.double() - expected).norm() < tolerance * expected.norm()


def test_only_the_wide_convolution_is_converted_and_it_is_fast_only_in_training_mode() -> None:
    torch.manual_seed(0)
    network = DigitNetwork().eval()
    x = torch.randn(1, 512, 7, 7)
    parameters, plain = dict(network.named_parameters()), network.conv3_2[0](x)
    winograd.convert(network)
    converted = [name for name, layer in network.named_modules() if isinstance(layer, winograd.WinogradConv2d)]
    assert converted == ["conv3_2.0"]
    assert all(now is parameters[name] for name, now in network.named_parameters())
    assert torch.equal(network.conv3_2[0](x), plain)
    assert torch.equal(copy.deepcopy(network).conv3_2[0](x), plain)
    training = network.conv3_2[0].train()(x)
    assert not torch.equal(training, plain)
    torch.testing.assert_close(training, plain, rtol=1e-3, atol=1e-4)
    other = torch.randn(1, 512, 17, 17)  # a side without tiles
    assert torch.equal(network.conv3_2[0](other), network.conv3_2[0].eval()(other))
