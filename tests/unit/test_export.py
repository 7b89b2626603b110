from pathlib import Path

import pytest
import torch

from mnist_pipeline import compute, data, export
from mnist_pipeline.network import DigitNetwork


def test_fp32_export_answers_as_the_network_does(trained: DigitNetwork, digits: data.Dataset, tmp_path: Path) -> None:
    images = digits.validation.images[:70]  # more than a batch
    export.export_fp32(trained, tmp_path / "network.onnx")
    answered = export.logits_of_onnx(tmp_path / "network.onnx", images)
    torch.testing.assert_close(answered, export.logits_of_weights(trained, images), atol=1e-3, rtol=1e-3)


def test_int8_reads_what_the_weights_read(trained: DigitNetwork, digits: data.Dataset, tmp_path: Path) -> None:
    export.export_int8(trained, digits.train.images, tmp_path / "network.onnx")
    answered = export.logits_of_onnx(tmp_path / "network.onnx", digits.validation.images)
    expected = export.logits_of_weights(trained, digits.validation.images)
    assert compute.accuracy(answered, expected.argmax(1)) >= 0.99
    # What a probability may differ by: 0.04 at most of 5,000 images on a fully trained network.
    assert (answered.softmax(1) - expected.softmax(1)).abs().max() < 0.1


@pytest.mark.parametrize(("maximal_drop", "form"), [(1.0, "int8 ONNX Runtime"), (-1.0, "weights")])
def test_int8_is_kept_only_where_it_loses_little(
    trained: DigitNetwork, digits: data.Dataset, tmp_path: Path, maximal_drop: float, form: str
) -> None:
    target = tmp_path / "int8.onnx"
    few = digits.validation.images[:64], digits.validation.labels[:64]
    decision = export.choose(trained, digits.train.images[:64], *few, target, maximal_drop)
    assert decision["form"] == form
    assert target.exists() == ("file" in decision) == (form != "weights")
    assert "points of validation accuracy" in decision["reason"]


def test_no_calibration_images_is_an_error(trained: DigitNetwork, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="calibration holds 0 images"):
        export.export_int8(trained, torch.zeros(0, 1, 28, 28, dtype=torch.uint8), tmp_path / "network.onnx")
