"""The two ONNX forms of a network, and which of them is served."""

from pathlib import Path

import pytest
import torch

from mnist_pipeline.data.dataset import Dataset
from mnist_pipeline.serving import export
from mnist_pipeline.training.inference import predict
from mnist_pipeline.training.network import DigitNetwork


@pytest.mark.parametrize(("maximal_drop", "chosen"), [(1.0, "int8"), (-1.0, "fp32")])
def test_int8_is_served_only_where_it_loses_little(
    trained: DigitNetwork, digits: Dataset, tmp_path: Path, maximal_drop: float, chosen: str
) -> None:
    assert trained.temperature != 1  # which the export folds into the output layer
    target = tmp_path / "network.onnx"
    few = digits.validation.images[:70], digits.validation.labels[:70]  # more than a batch
    serving, logits = export.export_for_serving(trained, digits.train.images[:64], *few, target, maximal_drop)
    assert serving["format"] == chosen
    answered, expected = export.compute_logits(target, few[0]), predict(trained, few[0], fp32=True)
    torch.testing.assert_close(logits, answered)
    difference = (answered - expected).abs().max()
    assert difference < 1e-3 if chosen == "fp32" else difference > 1e-3
