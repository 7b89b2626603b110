import shutil
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


@pytest.fixture
def weights(saved: Path) -> Path:
    return next(saved.glob("*.pth"))


@pytest.mark.parametrize(("maximal_drop", "form"), [(1.0, "int8 ONNX Runtime"), (-1.0, "weights")])
def test_int8_is_kept_only_where_it_loses_little(
    trained: DigitNetwork, weights: Path, digits: data.Dataset, tmp_path: Path, maximal_drop: float, form: str
) -> None:
    few = digits.validation.images[:64], digits.validation.labels[:64]
    decision = export.choose(trained, weights, digits.train.images[:64], *few, tmp_path, maximal_drop=maximal_drop)
    assert decision["form"] == form
    assert {file.name for file in tmp_path.iterdir()} == set(decision.get("files", {}))
    assert ("files" in decision) == (form != "weights")
    assert "points of validation accuracy" in decision["reason"]


def test_int8_answers_alone_where_it_is_sure(
    trained: DigitNetwork, weights: Path, digits: data.Dataset, tmp_path: Path
) -> None:
    shares = []
    for tolerance in (1.0, 0.02, 0.0):
        decision = export.choose(
            trained, weights, digits.train.images, *digits.validation, tmp_path, tolerance=tolerance, maximal_drop=1.0
        )
        shares.append(decision["int8_share"])
    assert shares[0] == 1 > shares[1] > shares[2] == 0


def test_surety_is_the_least_probability_that_no_stray_answer_reaches() -> None:
    exact = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    int8 = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.75, 0.25], [0.55, 0.45]])
    assert export.surety(exact, int8, 0.1) == 0
    assert 0.75 < export.surety(exact, int8, 0.01) < 0.7501


def test_fp32_takes_the_largest_weights_from_the_weights_file(
    trained: DigitNetwork, weights: Path, digits: data.Dataset, tmp_path: Path
) -> None:
    images, model = digits.validation.images[:70], tmp_path / "network.onnx"
    export.export_fp32(trained, model)
    expected = export.logits_of_onnx(model, images)
    export.point_into(weights, model)
    shutil.copy(weights, tmp_path)
    torch.testing.assert_close(export.logits_of_onnx(model, images), expected)
    assert model.stat().st_size < weights.stat().st_size / 5
    export.export_fp32(DigitNetwork(), model)
    with pytest.raises(ValueError, match="does not hold the weights of fc1"):
        export.point_into(weights, model)


def test_no_calibration_images_is_an_error(trained: DigitNetwork, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="calibration holds 0 images"):
        export.export_int8(trained, torch.zeros(0, 1, 28, 28, dtype=torch.uint8), tmp_path / "network.onnx")
