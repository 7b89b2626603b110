"""Training on a GPU; skipped where there is none. No GPU was at hand when this was written."""

import pytest
import torch

from mnist_pipeline.data.dataset import Dataset, Examples
from mnist_pipeline.training import loop
from mnist_pipeline.training.hyperparameters import Hyperparameters


@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
def test_a_fit_on_a_gpu_learns_and_can_be_repeated(digits: Dataset) -> None:
    few = Examples(digits.train.images[:2048], digits.train.labels[:2048])
    hp = Hyperparameters(batch_size=64, epochs=2.0, crop=0.5, rotation=10.0, translation=1.0, elasticity=0.5)
    losses = []
    for _ in range(2):
        history = loop.fit(loop.new_network(digits, 0), few, digits.validation, hp, evaluations=4)
        assert history[-1].validation_accuracy > 0.9
        losses.append([evaluation.loss for evaluation in history])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
