"""From an archive to its figures and pictures on the test images, which nothing else looks at."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnist_pipeline import files
from mnist_pipeline.data.catalogue import DATASETS
from mnist_pipeline.data.dataset import Examples
from mnist_pipeline.evaluation import plots, robustness
from mnist_pipeline.evaluation.calibration import reliability
from mnist_pipeline.evaluation.metrics import (
    accuracy_with_interval,
    measure,
    without_wrong_labels,
    worst_mistakes,
)
from mnist_pipeline.evaluation.unknown import measure_unknown
from mnist_pipeline.figures import class_labels
from mnist_pipeline.serving.archived import ArchivedModel, open_archive
from mnist_pipeline.training import model
from mnist_pipeline.training.inference import predict
from mnist_pipeline.training.runtime import best_device

log = logging.getLogger(__name__)


def evaluate(
    archived: Path,
    test: Examples,
    results_folder: Path,
    *,
    mistakes: int,
    photographs: int,
    numbers: int,
    unknown: int,
    seed: int,
) -> dict[str, Any]:
    """Write metrics.json, predictions.csv, the tables that DVC plots, and the pictures.

    Every figure is of what a CPU server answers: the code and the form of the network that are in the archive. The
    section "weights" alone is of the trained weights in fp32.

    Args:
        archived: what `archive` left.
        test: the test images.
        results_folder: gets the results.
        mistakes: how many of the worst mistakes to picture.
        photographs: how many test images to render as photographs, 0 for none.
        numbers: how many numbers of several test images to render so, 0 for none.
        unknown: how many letters and scribbles to draw, 0 for none.
        seed: of the photographs, numbers, letters and scribbles.

    Returns:
        The content of metrics.json.

    Raises:
        OpenError: the archive is missing or damaged.
    """
    with open_archive(archived) as (served, folder):
        info = served.info
        log.info("Evaluating %s on %d test images of %s.", info["weights"], len(test.labels), info["dataset"]["name"])
        logits = torch.from_numpy(served.logits(test.images[:, 0].numpy()))
        metrics = measure(logits, test.labels, info["class_names"], info["temperature"])
        metrics["format"] = info["serving"]["format"]
        metrics["weights"] = compare_with_weights(folder, logits, test)
        wrong = DATASETS[info["dataset"]["name"]].wrong_test_labels
        if wrong and max(wrong) < len(test.labels):
            metrics["without_wrong_labels"] = without_wrong_labels(logits, test.labels, wrong)
        if info["reader"] == "handwriting":
            counts = {"photographs": photographs, "numbers": numbers, "unknown": unknown}
            metrics |= measure_pictures(served, test, logits, counts, seed, results_folder / "plots")
    write_predictions(results_folder / "predictions.csv", logits, test.labels, info["class_names"])
    files.write_json(results_folder / "metrics.json", metrics)
    draw(results_folder / "plots", logits, test, info["temperature"], info["class_names"], mistakes)
    log.info(
        "%s: accuracy %.2f %% (95 %% interval %.2f to %.2f), %d mistakes; calibration error %.4f.",
        results_folder / "metrics.json",
        100 * metrics["accuracy"],
        100 * metrics["accuracy_low"],
        100 * metrics["accuracy_high"],
        metrics["errors"],
        metrics["calibration_error"],
    )
    return metrics


def compare_with_weights(folder: Path, served: Tensor, test: Examples) -> dict[str, float]:
    """Accuracy of an archive's weights in fp32, and how far the served logits (N, classes) are from theirs."""
    network, _ = model.load_model(folder)
    network.to(best_device()).to(memory_format=torch.channels_last)
    logits = predict(network, test.images, fp32=True)
    difference = (logits.softmax(1) - served.softmax(1)).abs().amax(1)
    return {
        **accuracy_with_interval(logits.argmax(1) == test.labels),
        "other_answers": int((served.argmax(1) != logits.argmax(1)).sum()),
        "largest_difference": difference.max().item(),
    }


def measure_pictures(
    served: ArchivedModel, test: Examples, logits: Tensor, counts: dict[str, int], seed: int, plots_folder: Path
) -> dict[str, dict[str, Any]]:
    """The figures on what people send: test images as files, as photographs, in numbers; letters and scribbles."""
    figures: dict[str, dict[str, Any]] = {"as_files": robustness.measure_files(served, test)}
    drawable, photographs = robustness.keep_strokes(test), counts["photographs"]
    if photographs > len(drawable.labels):
        log.info("evaluate.photographs = %d, but %d test images can be drawn.", photographs, len(drawable.labels))
    if photographs and len(drawable.labels):
        picture = plots_folder / "photographs.png"
        found = robustness.measure_photographs(served, drawable, photographs, seed, picture)
        figures["as_photographs"] = found
        log.info("As photographs: accuracy %.2f %%, on %d.", 100 * found["accuracy"], found["photographs"])
    if served.is_digits:
        if counts["numbers"] and len(drawable.labels):
            picture = plots_folder / "numbers.png"
            found = robustness.measure_numbers(served, drawable, counts["numbers"], seed, picture)
            figures["as_numbers"] = found
            log.info("As numbers: %.2f %% of %d read whole.", 100 * found["accuracy"], found["numbers"])
        if counts["unknown"]:
            known = served.score(logits.numpy())
            figures["unknown"] = measure_unknown(served, known, counts["unknown"], seed)
    return figures


def write_predictions(file: Path, logits: Tensor, labels: Tensor, names: list[str]) -> None:
    """A row for each test image: its label, and what the server answers, a probability for each class.

    The columns are label and probability_NAME, so that a class may be called label.
    """
    columns = [f"probability_{name}" for name in names]
    rows = [
        {"label": names[label], **{column: round(value, 6) for column, value in zip(columns, row, strict=True)}}
        for label, row in zip(labels.tolist(), logits.double().softmax(1).tolist(), strict=True)
    ]
    files.write_csv(file, rows)


def draw(folder: Path, logits: Tensor, test: Examples, temperature: float, names: list[str], mistakes: int) -> None:
    """Write the tables and pictures of an evaluation.

    Args:
        folder: gets them.
        logits: calibrated, (N, classes).
        test: the N test images.
        temperature: that the logits were divided by.
        names: of the classes.
        mistakes: how many of the worst ones to picture.
    """
    answers, probabilities = logits.argmax(1), logits.softmax(1)
    rows = [
        {"actual": names[actual], "predicted": names[answer]}
        for actual, answer in zip(test.labels.tolist(), answers.tolist(), strict=True)
    ]
    files.write_csv(folder / "confusion.csv", rows)
    plots.draw_confusion(folder / "confusion.png", test.labels.numpy(), answers.numpy(), names)
    before = reliability((logits * temperature).softmax(1), test.labels)
    after = reliability(probabilities, test.labels)
    files.write_csv(folder / "reliability.csv", after)
    plots.draw_reliability(folder / "reliability.png", before, after)
    worst = worst_mistakes(logits, test.labels, mistakes)
    if len(worst):
        labels = class_labels(names)
        titles = [
            f"{labels[answers[k]]} at {probabilities[k].max():.0%}\nis {labels[test.labels[k]]} (image {k})"
            for k in worst
        ]
        wrong = int((answers != test.labels).sum())
        heading = f"The {len(worst)} most confident of {wrong} mistakes" if wrong > 1 else "The only mistake"
        plots.draw_mistakes(folder / "mistakes.png", test.images[torch.from_numpy(worst), 0].numpy(), titles, heading)
