import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnist_pipeline import winograd
from mnist_pipeline.network import DigitNetwork

# Of the convolution's result and of both gradients, against the definition in float64. bfloat16 keeps 8 bits, and the
# change of basis with many points loses some of them.
TOLERANCE = {(5, torch.float32): 1e-5, (7, torch.float32): 1e-5, (5, torch.bfloat16): 0.065, (7, torch.bfloat16): 0.02}
PLAIN = {torch.float32: 1e-5, torch.bfloat16: 0.004}


@pytest.mark.parametrize(("outputs", "points"), winograd.BASES.values())
def test_three_taps_are_correlated_with_a_product_for_each_point(outputs: int, points: tuple[float, ...]) -> None:
    a, g, b = winograd.cook_toom(outputs, points)
    x, w = np.random.default_rng(0).normal(size=outputs + 2), np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(a @ ((g @ w) * (b @ x)), np.correlate(x, w), atol=1e-9)


@pytest.mark.parametrize(("side", "kind"), TOLERANCE)
def test_it_is_the_convolution_both_ways(side: int, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    x, gradient = torch.randn(3, 512, side, side).relu(), torch.randn(3, 512, side, side)  # as conv3_2 has them
    weight = torch.randn(512, 512, 3, 3)

    def both_ways(convolve, kind: torch.dtype) -> list[torch.Tensor]:
        mine, its = (value.to(kind, copy=True).requires_grad_() for value in (x, weight))
        result = convolve(mine, its)
        result.backward(gradient.to(kind))
        return [result, mine.grad, its.grad]

    def plain(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, weight, padding=1)

    exact = both_ways(plain, torch.float64)
    for convolve, tolerance in ((winograd.Convolution.apply, TOLERANCE[side, kind]), (plain, PLAIN[kind])):
        for found, expected in zip(both_ways(convolve, kind), exact, strict=True):
            assert (found.double() - expected).norm() < tolerance * expected.norm()


def test_its_gradient_is_the_derivative_of_its_result() -> None:
    torch.manual_seed(0)
    x, weight = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((1, 2, 5, 5), (2, 2, 3, 3)))
    assert torch.autograd.gradcheck(winograd.Convolution.apply, (x, weight))


def test_only_the_wide_convolution_is_accelerated_and_only_while_it_trains() -> None:
    torch.manual_seed(0)
    network = DigitNetwork().eval()
    before = {name: layer.forward for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    with winograd.accelerated(network):
        changed = [name for name, forward in before.items() if network.get_submodule(name).forward != forward]
        x = torch.randn(1, 512, 7, 7)
        assert changed == ["conv3_2.0"]
        assert torch.equal(network.conv3_2[0](x), before["conv3_2.0"](x))
        training = network.conv3_2[0].train()(x)
    assert not torch.equal(training, before["conv3_2.0"](x))
    torch.testing.assert_close(training, before["conv3_2.0"](x), rtol=1e-3, atol=1e-4)
    assert all(network.get_submodule(name).forward == forward for name, forward in before.items())
