"""What a GPU does otherwise than a CPU; skipped where there is none. No GPU was at hand when this was written."""

from collections.abc import Iterator

import pytest
import torch

from mnist_pipeline import data, training
from mnist_pipeline.augmentation import Augmentation
from mnist_pipeline.network import DigitNetwork

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
SOME = Augmentation(rotation=10.0, translation=1.0, scaling=0.08, elasticity=0.5, flip=0.1)


@pytest.fixture
def few(digits: data.Dataset) -> data.Examples:
    return data.Examples(digits.train.images[:2048].cuda(), digits.train.labels[:2048].cuda())


def new_network() -> DigitNetwork:
    torch.manual_seed(0)
    return DigitNetwork().cuda().to(memory_format=torch.channels_last).train()


def test_a_captured_network_computes_what_the_plain_one_does(few: data.Examples) -> None:
    plain, captured = new_network(), new_network()
    images, labels = few.images[:64].contiguous(memory_format=torch.channels_last), few.labels[:64]
    before = {name: value.clone() for name, value in captured.named_buffers()}
    training.capture(captured, torch.zeros_like(images))
    assert all(torch.equal(value, before[name]) for name, value in captured.named_buffers())
    for network in (plain, captured):
        with training.autocast(images.device):
            logits = network(images)
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    for (name, mine), its in zip(captured.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad, rtol=0.05, atol=1e-3, msg=name)
    for mine, its in zip(captured.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-2, atol=1e-3)


@pytest.fixture
def waiting_is_allowed_again() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("waiting_is_allowed_again")
def test_no_step_waits_for_the_gpu(few: data.Examples) -> None:
    hp = training.Hyperparameters(batch_size=64, augmentation=SOME)
    network = new_network()
    training.capture(network, few.images[:64].contiguous(memory_format=torch.channels_last))
    optimizer = training.make_optimizer(network, hp)
    for step in range(3):
        torch.cuda.set_sync_debug_mode("error" if step else "default")  # the first puts a pass's order on the device
        batch = training.batch_at(step, few, hp, seed=0)
        training.learn(network, optimizer, batch, 1e-3, 0.05)


def test_a_fit_on_a_gpu_learns_and_can_be_repeated(digits: data.Dataset, few: data.Examples) -> None:
    hp = training.Hyperparameters(batch_size=64, epochs=2.0, crop=0.5, augmentation=SOME)
    losses = []
    for _ in range(2):
        history = training.fit(network := new_network(), few, digits.validation, hp, reports=4)
        assert "forward" not in vars(network)
        assert history[-1].validation_accuracy > 0.9
        losses.append([report.loss for report in history])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
