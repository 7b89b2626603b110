"""How often a network is right on images that it has not seen, and how far its probabilities can be trusted."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor
from torch.nn import functional as F

BINS = 15  # of the reliability curve, as in Guo et al. (2017)


def accuracy_with_interval(correct: Tensor) -> dict[str, float]:
    """Accuracy and its 95 % interval (Wilson's), all 0..1, from bool (N,), N of 1 or more."""
    interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(method="wilson")
    return {
        "accuracy": correct.double().mean().item(),
        "accuracy_low": float(interval.low),
        "accuracy_high": float(interval.high),
    }


def measure(logits: Tensor, labels: Tensor, temperature: float) -> dict[str, float]:
    """Accuracy with its 95 % interval, mistakes, loss, and the calibration error with and without the temperature.

    Logits (N, classes) are divided by the temperature already; labels are int64 (N,).
    """
    correct = logits.argmax(1) == labels
    return {
        **accuracy_with_interval(correct),
        "errors": int((~correct).sum()),
        "loss": F.cross_entropy(logits, labels).item(),
        "calibration_error": calibration_error(logits.softmax(1), labels),
        "calibration_error_uncalibrated": calibration_error((logits * temperature).softmax(1), labels),
    }


def reliability(probabilities: Tensor, labels: Tensor) -> list[dict[str, float]]:
    """A row for each bin of like confidence that holds any of the probabilities (N, classes); labels are (N,)."""
    confidence, answer = probabilities.max(1)
    correct = answer == labels
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    rows = []
    for number in bins.unique():
        inside = bins == number
        rows.append(
            {
                "confidence": confidence[inside].mean().item(),
                "accuracy": correct[inside].double().mean().item(),
                "images": int(inside.sum()),
            }
        )
    return rows


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Expected calibration error, 0..1: the mean gap between confidence and accuracy over the images."""
    rows = reliability(probabilities, labels)
    return sum(row["images"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / len(labels)


def measure_classes(logits: Tensor, labels: Tensor, class_names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision and recall of each class, by its name; 0 for a class that is never predicted, or of which none is."""
    classes, answers = range(len(class_names)), logits.argmax(1).numpy()
    figures = precision_recall_fscore_support(labels.numpy(), answers, labels=classes, zero_division=0)
    return {
        name: {"precision": float(precision), "recall": float(recall)}
        for name, precision, recall in zip(class_names, *figures[:2], strict=True)
    }


def without_wrong_labels(logits: Tensor, labels: Tensor, wrong: Sequence[int]) -> dict[str, float]:
    """Accuracy and its interval without the images, by index, whose label is known to be wrong."""
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[list(wrong)] = False
    return accuracy_with_interval(logits[keep].argmax(1) == labels[keep])


def worst_mistakes(logits: Tensor, labels: Tensor, count: int) -> np.ndarray:
    """Indices of the wrong answers, the most confident first: int64 (at most count,)."""
    losses = F.cross_entropy(logits, labels, reduction="none")
    wrong = (logits.argmax(1) != labels).nonzero().flatten()
    return wrong[losses[wrong].argsort(descending=True, stable=True)][:count].numpy()
