"""What a GPU does otherwise than a CPU; skipped where there is none. No GPU was at hand when this was written."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mnist_pipeline.data.dataset import Dataset, Examples
from mnist_pipeline.training import loop
from mnist_pipeline.training.hyperparameters import Hyperparameters
from mnist_pipeline.training.network import DigitNetwork
from mnist_pipeline.training.step import Learner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
SOME: dict[str, Any] = {"rotation": 10.0, "translation": 1.0, "scaling": 0.08, "elasticity": 0.5, "flip": 0.1}


@pytest.fixture
def few(digits: Dataset) -> Examples:
    return Examples(digits.train.images[:2048].cuda(), digits.train.labels[:2048].cuda())


def new_network() -> DigitNetwork:
    torch.manual_seed(0)
    return DigitNetwork().cuda().to(memory_format=torch.channels_last).train()


@pytest.fixture
def waiting_is_allowed_again() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("waiting_is_allowed_again")
def test_no_step_waits_for_the_gpu(few: Examples) -> None:
    hp = Hyperparameters(batch_size=64, **SOME)
    learner = Learner(new_network(), hp)
    learner.step(loop.batch_at(0, few, hp, seed=0), 1e-3)  # the first call of a kernel may wait
    for step in range(3):
        torch.cuda.set_sync_debug_mode("error" if step else "default")  # the first puts an epoch's order on the device
        learner.step(loop.batch_at(step, few, hp, seed=0), 1e-3)


def test_a_fit_on_a_gpu_learns_and_can_be_repeated(digits: Dataset, few: Examples) -> None:
    hp = Hyperparameters(batch_size=64, epochs=2.0, crop=0.5, **SOME)
    losses = []
    for _ in range(2):
        history = loop.fit(new_network(), few, digits.validation, hp, evaluations=4)
        assert history[-1].validation_accuracy > 0.9
        losses.append([evaluation.loss for evaluation in history])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
