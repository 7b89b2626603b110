"""From a trained model to its figures and pictures on the test images, which nothing else looks at."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnist_pipeline import compute, data, evaluation, files, model, pictures, robustness

log = logging.getLogger(__name__)


def evaluate_model(
    data_folder: Path, model_folder: Path, results_folder: Path, *, mistakes: int, photographs: int, seed: int
) -> dict[str, Any]:
    """Write metrics.json, the tables that DVC plots, and the pictures.

    Args:
        data_folder: what `download` left.
        model_folder: what `train` left.
        results_folder: gets the results.
        mistakes: how many of the worst mistakes to picture.
        photographs: how many test images to render as photographs, 0 for none.
        seed: of the photographs.

    Returns:
        The content of metrics.json.
    """
    network, info = model.load(model_folder)
    network.to(compute.best_device()).to(memory_format=torch.channels_last)
    test = data.load_test(data_folder)
    log.info("Evaluating %s on %d test images of %s.", info["weights"], len(test.labels), info["dataset"]["name"])
    names, temperature = info["class_names"], info["temperature"]
    logits = compute.predict(network, test.images, exact=True)
    metrics = evaluation.measure(logits, test.labels, temperature, names)
    if info["dataset"]["name"] == "MNIST" and len(test.labels) == 10_000:
        metrics["without_wrong_labels"] = evaluation.without_wrong_labels(logits, test.labels)
    if info["reader"] == "handwriting":
        metrics["as_files"] = robustness.as_files(network, test, logits)
        if photographs:
            sheet = results_folder / "plots" / "photographs.png"
            taken = robustness.as_photographs(network, test, temperature, photographs, seed, sheet)
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
        titles = [
            f"{names[answers[k]]} at {calibrated[k].max():.0%}, is {names[test.labels[k]]}\n(image {k})" for k in worst
        ]
        wrong = int((answers != test.labels).sum())
        heading = f"The {len(worst)} most confident of {wrong} mistakes"
        pictures.mistakes(folder / "mistakes.png", test.images[torch.from_numpy(worst), 0].numpy(), titles, heading)
