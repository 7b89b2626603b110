"""From an archive to its figures and pictures on the test images, which nothing else looks at."""

import logging
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from mnist_pipeline import files
from mnist_pipeline.data.catalogue import DATASETS
from mnist_pipeline.data.dataset import Examples, are_uneven
from mnist_pipeline.evaluation import metrics, plots
from mnist_pipeline.evaluation.pictures import encode_png, read_number
from mnist_pipeline.figures import shorten
from mnist_pipeline.serving.answer import Model
from mnist_pipeline.serving.archived import open_archive
from mnist_pipeline.training import model
from mnist_pipeline.training.inference import predict
from mnist_pipeline.training.runtime import best_device

log = logging.getLogger(__name__)

BATCH = 64  # files that are answered together


def evaluate(archived: Path, test: Examples, results_folder: Path, mistakes: int) -> dict[str, float]:
    """Write metrics.json, details.json, predictions.csv, the tables that DVC plots, and the pictures.

    metrics.json holds the few numbers by which two models are compared, the validation accuracy first: who chooses one
    of several models by that number leaves the test images for the final figure. Every figure is of what a CPU server
    answers, but for the validation accuracy, training_seconds, and "weights", the trained weights in fp32. So many of
    the worst `mistakes` are pictured.

    Returns the content of metrics.json. Raises OpenError where the archive is missing or damaged.
    """
    with open_archive(archived) as (served, folder):
        info = served.info
        log.info("Evaluating %s on %d test images of %s.", info["weights"], len(test.labels), info["dataset"]["name"])
        logits = torch.from_numpy(served.logits(test.images.numpy()))
        others = {"weights": compare_with_weights(folder, logits, test)}
        wrong = DATASETS[info["dataset"]["name"]].wrong_test_labels
        if wrong and max(wrong) < len(test.labels):
            others["without_wrong_labels"] = metrics.without_wrong_labels(logits, test.labels, wrong)
        if info["reader"] == "handwriting":
            others["as_files"] = measure_files(served, test)
    names, temperature = info["class_names"], info["temperature"]
    per_class = metrics.measure_classes(logits, test.labels, names)
    figures = {
        "validation_accuracy": info["validation_accuracy"],
        **metrics.measure(logits, test.labels, temperature),
        **{f"accuracy_{name}": other["accuracy"] for name, other in others.items()},
        "other_answers": others["weights"]["other_answers"],
    }
    if "as_files" in others:
        figures["refused_files"] = others["as_files"]["refused"]
    figures["training_seconds"] = info["training_seconds"]
    if are_uneven(test.labels):  # the accuracy then hides the classes of few images
        recalls = [per_class[names[label]]["recall"] for label in test.labels.unique().tolist()]
        figures["balanced_accuracy"] = sum(recalls) / len(recalls)
    about = {"images": len(test.labels), "format": info["serving"]["format"]}
    write_predictions(results_folder / "predictions.csv", logits, test.labels, names)
    files.write_json(results_folder / "details.json", about | others | {"per_class": per_class})
    files.write_json(results_folder / "metrics.json", figures)
    draw(results_folder / "plots", logits, test, temperature, names, mistakes)
    low, high = 100 * figures["accuracy_low"], 100 * figures["accuracy_high"]
    log.info("Accuracy %.2f %% (95 %% interval %.2f to %.2f).", 100 * figures["accuracy"], low, high)
    return figures


def compare_with_weights(folder: Path, served: Tensor, test: Examples) -> dict[str, float]:
    """Accuracy of an archive's weights in fp32, and how often the served logits (N, classes) answer otherwise."""
    network, _ = model.load_model(folder)
    network.to(best_device()).to(memory_format=torch.channels_last)
    logits = predict(network, test.images, fp32=True)
    return {
        **metrics.accuracy_with_interval(logits.argmax(1) == test.labels),
        "other_answers": int((served.argmax(1) != logits.argmax(1)).sum()),
    }


def measure_files(served: Model, test: Examples) -> dict[str, float]:
    """Accuracy, with its interval, on the test images when each is sent as a PNG, and how many are refused.

    An image in which no digit is found, or several, counts as a mistake.
    """
    names, answers = served.info["class_names"], []
    for batch in tqdm(test.images[:, 0].split(BATCH), desc="files", unit="batch", disable=None):
        pictures = [encode_png(image) for image in batch.numpy()]
        answers += [read_number(found, names) for found, _ in served.find(pictures)]
    correct = [answer == names[label] for answer, label in zip(answers, test.labels.tolist(), strict=True)]
    return {**metrics.accuracy_with_interval(torch.tensor(correct)), "refused": answers.count("")}


def write_predictions(file: Path, logits: Tensor, labels: Tensor, names: list[str]) -> None:
    """Write a row for each test image: label, and probability_NAME for each class, so that a class may be "label"."""
    columns = [f"probability_{name}" for name in names]
    rows = [
        {"label": names[label], **{column: round(value, 6) for column, value in zip(columns, row, strict=True)}}
        for label, row in zip(labels.tolist(), logits.double().softmax(1).tolist(), strict=True)
    ]
    files.write_csv(file, rows)


def draw(folder: Path, logits: Tensor, test: Examples, temperature: float, names: list[str], mistakes: int) -> None:
    """Write the tables and pictures of an evaluation; the logits are divided by the temperature already."""
    answers, probabilities = logits.argmax(1), logits.softmax(1)
    rows = [
        {"actual": names[actual], "predicted": names[answer]}
        for actual, answer in zip(test.labels.tolist(), answers.tolist(), strict=True)
    ]
    files.write_csv(folder / "confusion.csv", rows)
    plots.draw_confusion(folder / "confusion.png", test.labels.numpy(), answers.numpy(), names)
    before = metrics.reliability((logits * temperature).softmax(1), test.labels)
    after = metrics.reliability(probabilities, test.labels)
    files.write_csv(folder / "reliability.csv", after)
    plots.draw_reliability(folder / "reliability.png", before, after)
    worst, labels = metrics.worst_mistakes(logits, test.labels, mistakes), [shorten(name) for name in names]
    titles = [
        f"{labels[answers[k]]} at {probabilities[k].max():.0%}\nis {labels[test.labels[k]]} (image {k})" for k in worst
    ]
    heading = f"Mistakes: {len(worst)} of {int((answers != test.labels).sum())}, the most confident first"
    plots.draw_mistakes(folder / "mistakes.png", test.images[torch.from_numpy(worst)].numpy(), titles, heading)
