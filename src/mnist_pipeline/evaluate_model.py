"""From a trained model to its figures and pictures on the test images, which nothing else looks at."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnist_pipeline import compute, data, evaluation, export, files, model, pictures, robustness

log = logging.getLogger(__name__)


def evaluate_model(
    dataset: data.Dataset,
    test: data.Examples,
    model_folder: Path,
    results_folder: Path,
    *,
    maximal_drop: float,
    mistakes: int,
    photographs: int,
    seed: int,
) -> dict[str, Any]:
    """Write metrics.json, predictions.csv, the tables that DVC plots, and the pictures.

    Args:
        dataset: what the model learnt from, with the validation images that its served form is chosen with.
        test: the test images.
        model_folder: what `train` left.
        results_folder: gets the results.
        maximal_drop: validation accuracy that the int8 form may lose, as for `archive`.
        mistakes: how many of the worst mistakes to picture.
        photographs: how many test images to render as photographs, 0 for none.
        seed: of the photographs.

    Returns:
        The content of metrics.json.
    """
    network, info = model.load(model_folder)
    served, form = served_logits(network, dataset, test, maximal_drop)
    network.to(compute.best_device()).to(memory_format=torch.channels_last)
    log.info("Evaluating %s on %d test images of %s.", info["weights"], len(test.labels), info["dataset"]["name"])
    names, temperature = info["class_names"], info["temperature"]
    logits = compute.predict(network, test.images, exact=True)
    metrics = evaluation.measure(logits, test.labels, temperature, names)
    metrics["as_served"] = as_served(served / temperature, logits / temperature, test.labels) | {"form": form}
    write_predictions(results_folder / "predictions.csv", served / temperature, test.labels, names)
    if info["dataset"]["name"] == "MNIST" and len(test.labels) == 10_000:
        metrics["without_wrong_labels"] = evaluation.without_wrong_labels(logits, test.labels)
    if info["reader"] == "handwriting":
        metrics["as_files"] = robustness.as_files(network, test, logits)
        drawable = robustness.keep_strokes(test)
        if photographs > len(drawable.labels):
            log.info("evaluate.photographs = %d, but %d test images can be drawn.", photographs, len(drawable.labels))
        if photographs and len(drawable.labels):
            sheet = results_folder / "plots" / "photographs.png"
            taken = robustness.as_photographs(network, drawable, temperature, photographs, seed, sheet)
            metrics["as_photographs"] = taken
            log.info("As photographs: accuracy %.2f %%, on %d.", 100 * taken["accuracy"], taken["photographs"])
    files.write_json(results_folder / "metrics.json", metrics)
    draw(results_folder / "plots", logits, test, temperature, names, mistakes)
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


def served_logits(
    network: nn.Module, dataset: data.Dataset, test: data.Examples, maximal_drop: float
) -> tuple[Tensor, str]:
    """What a CPU server answers to the test images, (N, classes), and in which form: as `archive` will choose it."""
    with tempfile.TemporaryDirectory() as folder:
        int8 = Path(folder) / "network.onnx"
        chosen = export.choose(network, dataset.train.images, *dataset.validation, int8, maximal_drop)
        kept = int8.exists()
        logits = export.logits_of_onnx(int8, test.images) if kept else export.logits_of_weights(network, test.images)
    return logits, chosen["form"]


def as_served(served: Tensor, exact: Tensor, labels: Tensor) -> dict[str, Any]:
    """Figures of the served form, from calibrated logits (N, classes), and how far it is from the weights' own."""
    answered, expected = served.softmax(1), exact.softmax(1)
    difference = (answered - expected).abs().amax(1)
    return {
        **evaluation.shares(served.argmax(1) == labels),
        "calibration_error": evaluation.calibration_error(answered, labels),
        "other_answers": int((served.argmax(1) != exact.argmax(1)).sum()),
        "within_0.001": (difference <= 0.001).double().mean().item(),
        "largest_difference": difference.max().item(),
    }


def write_predictions(file: Path, served: Tensor, labels: Tensor, names: list[str]) -> None:
    """A row for each test image: its label, and what the server will answer, a probability for each class."""
    rows = [
        {"label": names[label], **{name: round(value, 6) for name, value in zip(names, row, strict=True)}}
        for label, row in zip(labels.tolist(), served.double().softmax(1).tolist(), strict=True)
    ]
    files.write_csv(file, rows)


def draw(
    folder: Path, logits: Tensor, test: data.Examples, temperature: float, names: list[str], mistakes: int
) -> None:
    """The tables and pictures of an evaluation."""
    answers, calibrated = logits.argmax(1), (logits / temperature).softmax(1)
    rows = [
        {"actual": names[actual], "predicted": names[answer]}
        for actual, answer in zip(test.labels.tolist(), answers.tolist(), strict=True)
    ]
    files.write_csv(folder / "confusion.csv", rows)
    pictures.confusion(folder / "confusion.png", test.labels.numpy(), answers.numpy(), names)
    after = evaluation.reliability(calibrated, test.labels)
    files.write_csv(folder / "reliability.csv", after)
    pictures.reliability(folder / "reliability.png", evaluation.reliability(logits.softmax(1), test.labels), after)
    worst = evaluation.worst_mistakes(logits / temperature, test.labels, mistakes)
    if len(worst):
        labels = pictures.class_labels(names)
        titles = [
            f"{labels[answers[k]]} at {calibrated[k].max():.0%}\nis {labels[test.labels[k]]} (image {k})" for k in worst
        ]
        wrong = int((answers != test.labels).sum())
        heading = f"The {len(worst)} most confident of {wrong} mistakes" if wrong > 1 else "The only mistake"
        pictures.mistakes(folder / "mistakes.png", test.images[torch.from_numpy(worst), 0].numpy(), titles, heading)
