"""The figures and tables of an evaluation."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_pipeline.data.catalogue import WRONG_MNIST_LABELS
from mnist_pipeline.data.dataset import Dataset, Examples, load_test
from mnist_pipeline.evaluation.evaluate import draw, evaluate, write_predictions
from mnist_pipeline.evaluation.metrics import (
    accuracy_with_interval,
    calibration_error,
    measure,
    measure_classes,
    without_wrong_labels,
    worst_mistakes,
)
from mnist_pipeline.training.temperature import fit_temperature


def draws(count: int, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels that were drawn with the probabilities softmax(logits / temperature)."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 10, generator=generator) * 4
    labels = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator).flatten()
    return logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_drew_the_labels_is_found(temperature: float) -> None:
    assert fit_temperature(*draws(20_000, temperature)) == pytest.approx(temperature, rel=0.05)


def test_without_a_mistake_there_is_no_temperature_to_fit() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    assert fit_temperature(logits, torch.tensor([0, 1])) == 1.0
    assert 0.05 < fit_temperature(logits.repeat(10, 1), torch.tensor([0] + [0, 1] * 9 + [1])) != 1.0


def test_the_right_temperature_calibrates() -> None:
    logits, labels = draws(20_000, 3.0)
    figures = measure(logits / 3, labels, 3.0)
    assert figures["calibration_error"] < 0.02
    assert figures["calibration_error_uncalibrated"] > 0.2
    assert figures["calibration_error_uncalibrated"] == pytest.approx(calibration_error(logits.softmax(1), labels))


@pytest.mark.parametrize(
    # From Wilson's formula with z = 1.959964.
    ("correct", "count", "low", "high"),
    [(9951, 10_000, 0.993528, 0.996291), (50, 100, 0.403832, 0.596168), (10, 10, 0.722467, 1.0), (0, 10, 0, 0.277533)],
)
def test_the_interval_is_wilsons(correct: int, count: int, low: float, high: float) -> None:
    figures = accuracy_with_interval(torch.arange(count) < correct)
    assert (figures["accuracy_low"], figures["accuracy_high"]) == pytest.approx((low, high), abs=1e-6)
    assert figures["accuracy"] == pytest.approx(correct / count)


def test_every_figure_of_a_small_example() -> None:
    #                 right            right            wrong: 1 taken for 0
    logits = torch.tensor([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    figures = measure(logits / 2, labels, 2.0)
    classes = measure_classes(torch.nn.functional.pad(logits, (0, 1)), labels, ["zero", "one", "two"])
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["errors"] == 1
    assert classes["zero"] == {"precision": pytest.approx(0.5), "recall": 1.0}
    assert classes["one"] == {"precision": 1.0, "recall": pytest.approx(0.5)}
    assert classes["two"] == {"precision": 0.0, "recall": 0.0}  # never predicted, and no image is of it
    assert figures["loss"] == pytest.approx((2 * math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 3, rel=1e-5)
    confidence = 1 / (1 + math.exp(-2))
    assert figures["calibration_error"] == pytest.approx(confidence - 2 / 3, rel=1e-5)


def test_wrong_labels_are_left_out() -> None:
    assert len(set(WRONG_MNIST_LABELS)) == 15
    labels = torch.zeros(10_000, dtype=torch.int64)
    logits = torch.tensor([1.0, 0.0]).repeat(10_000, 1)
    logits[list(WRONG_MNIST_LABELS)] = torch.tensor([0.0, 1.0])
    assert without_wrong_labels(logits, labels, WRONG_MNIST_LABELS)["accuracy"] == 1.0


def test_the_worst_mistakes_come_first_equal_ones_in_order_and_right_answers_never() -> None:
    logits = torch.tensor([[5.0, 0.0], [1.0, 0.0], [9.0, 0.0], [2.0, 0.0]])
    assert worst_mistakes(logits, torch.tensor([1, 1, 0, 1]), 2).tolist() == [0, 3]
    equal = torch.tensor([1.0, 0.0]).repeat(500, 1)
    assert worst_mistakes(equal, torch.ones(500, dtype=torch.int64), 25).tolist() == list(range(25))


NAMES = [
    *("label", "probability_label", "actual", "a", "a.precision", "a,b", '"q"', "=1+1", "$x$", "<b>", "NA", "1", "01")
]


def test_classes_of_any_name_are_in_every_table_and_all_pictures_are_drawn(tmp_path: Path) -> None:
    labels = torch.arange(len(NAMES))
    logits = 9 * torch.eye(len(NAMES))  # without a mistake
    write_predictions(tmp_path / "predictions.csv", logits, labels, NAMES)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == NAMES
    assert list(rows[0]) == ["label", *(f"probability_{name}" for name in NAMES)]
    expected = logits.softmax(1)[:, -1].tolist()
    assert [float(row[f"probability_{NAMES[-1]}"]) for row in rows] == pytest.approx(expected, abs=1e-6)
    images = torch.zeros(len(NAMES), 1, 28, 28, dtype=torch.uint8)
    draw(tmp_path / "plots", logits, Examples(images, labels), 1.0, NAMES, mistakes=5)
    with (tmp_path / "plots/confusion.csv").open(newline="", encoding="utf-8") as file:
        assert [row["actual"] for row in csv.DictReader(file)] == NAMES
    drawn = {path.name for path in (tmp_path / "plots").iterdir()}
    assert drawn == {"confusion.csv", "confusion.png", "mistakes.png", "reliability.csv", "reliability.png"}


def test_the_metrics_are_few_the_validation_accuracy_is_the_first_and_refused_files_are_mistakes(
    mnist: Path, int8_archive: Path, tmp_path: Path
) -> None:
    test = load_test(mnist)
    blank, full = (torch.full((1, 1, 28, 28), value, dtype=torch.uint8) for value in (0, 255))
    odd = Examples(torch.cat([blank, full, test.images[:20]]), torch.cat([torch.tensor([0, 0]), test.labels[:20]]))
    metrics = evaluate(int8_archive, odd, tmp_path, 5)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert next(iter(metrics.items())) == ("validation_accuracy", 0.9)  # as helpers/small_model.py describes it
    assert metrics["training_seconds"] == 1.0  # likewise
    assert len(metrics) <= 15
    assert all(isinstance(value, int | float) for value in metrics.values())
    assert metrics["refused_files"] >= 2
    assert metrics["accuracy_as_files"] <= 1 - metrics["refused_files"] / 22
    details = json.loads((tmp_path / "details.json").read_text())
    assert (details["images"], details["format"], set(details["per_class"])) == (22, "int8", set("0123456789"))
    assert details["as_files"]["accuracy_low"] < metrics["accuracy_as_files"] < details["as_files"]["accuracy_high"]


def test_uneven_classes_have_a_balanced_accuracy(int8_archive: Path, digits: Dataset, tmp_path: Path) -> None:
    images, labels = digits.validation
    for ones, is_uneven in ((9, True), (3, False)):
        chosen = torch.cat([torch.where(labels == label)[0][: ones if label == 1 else 3] for label in range(10)])
        metrics = evaluate(int8_archive, Examples(images[chosen], labels[chosen]), tmp_path, 5)
        assert ("balanced_accuracy" in metrics) == is_uneven
        if is_uneven:
            per_class = json.loads((tmp_path / "details.json").read_text())["per_class"].values()
            assert metrics["balanced_accuracy"] == pytest.approx(np.mean([each["recall"] for each in per_class]))
            assert metrics["balanced_accuracy"] != pytest.approx(metrics["accuracy"], abs=1e-3)
