"""What a GPU does otherwise than a CPU; skipped where there is none. No GPU was at hand when this was written."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mnist_pipeline.data.dataset import Dataset, Examples
from mnist_pipeline.training import loop
from mnist_pipeline.training.hyperparameters import Hyperparameters
from mnist_pipeline.training.network import DigitNetwork
from mnist_pipeline.training.runtime import autocast
from mnist_pipeline.training.step import Learner, capture

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
SOME: dict[str, Any] = {"rotation": 10.0, "translation": 1.0, "scaling": 0.08, "elasticity": 0.5, "flip": 0.1}


@pytest.fixture
def few(digits: Dataset) -> Examples:
    return Examples(digits.train.images[:2048].cuda(), digits.train.labels[:2048].cuda())


def new_network() -> DigitNetwork:
    torch.manual_seed(0)
    return DigitNetwork().cuda().to(memory_format=torch.channels_last).train()


def test_a_captured_network_computes_what_the_plain_one_does(few: Examples) -> None:
    plain, captured = new_network(), new_network()
    images, labels = few.images[:64].contiguous(memory_format=torch.channels_last), few.labels[:64]
    before = {name: value.clone() for name, value in captured.named_buffers()}
    graphed = capture(captured, torch.zeros_like(images))
    assert all(torch.equal(value, before[name]) for name, value in captured.named_buffers())
    for network in (plain, graphed):
        with autocast(images.device):
            logits = network(images)
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    for (name, found), expected in zip(captured.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=0.05, atol=1e-3, msg=name)
    for buffer, expected_buffer in zip(captured.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected_buffer, rtol=1e-2, atol=1e-3)


@pytest.fixture
def waiting_is_allowed_again() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("waiting_is_allowed_again")
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_no_step_waits_for_the_gpu(few: Examples, cuda_graph: bool) -> None:
    hp = Hyperparameters(batch_size=64, **SOME)
    learner = Learner(new_network(), hp, cuda_graph=cuda_graph)
    learner.step(loop.batch_at(0, few, hp, seed=0), 1e-3)  # captures the graph, and waits for it
    for step in range(3):
        torch.cuda.set_sync_debug_mode("error" if step else "default")  # the first puts an epoch's order on the device
        learner.step(loop.batch_at(step, few, hp, seed=0), 1e-3)


def test_a_fit_on_a_gpu_learns_and_can_be_repeated(digits: Dataset, few: Examples) -> None:
    hp = Hyperparameters(batch_size=64, epochs=2.0, crop=0.5, **SOME)
    losses = []
    for _ in range(2):
        history = loop.fit(network := new_network(), few, digits.validation, hp, evaluations=4)
        assert "forward" not in vars(network)
        assert history[-1].validation_accuracy > 0.9
        losses.append([evaluation.loss for evaluation in history])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
