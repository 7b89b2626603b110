"""What a trained network does on images that it has not seen."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor
from torch.nn import functional as F

from mnist_pipeline.evaluation.calibration import calibration_error


def accuracy_with_interval(correct: Tensor) -> dict[str, float]:
    """Accuracy and its 95 % interval (Wilson's), all 0..1, from bool (N,), N of 1 or more."""
    interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(method="wilson")
    return {
        "accuracy": correct.double().mean().item(),
        "accuracy_low": float(interval.low),
        "accuracy_high": float(interval.high),
    }


def mcnemar(first: Tensor, second: Tensor) -> float:
    """How likely so large a difference between two equally good models is by chance, 0..1: McNemar's exact test (1947).

    Both answer the same images, so only those count that one model alone gets right.

    Args:
        first, second: whether each model answers an image rightly, bool (N,).
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    count = only_first + only_second
    return float(binomtest(only_first, count).pvalue) if count else 1.0


def measure(logits: Tensor, labels: Tensor, temperature: float) -> dict[str, float]:
    """Accuracy with its 95 % interval, mistakes, loss, and the calibration error with and without the temperature.

    Args:
        logits: calibrated, float (N, classes).
        labels: int64 (N,).
        temperature: that the logits were divided by.
    """
    correct = logits.argmax(1) == labels
    return {
        **accuracy_with_interval(correct),
        "errors": int((~correct).sum()),
        "loss": F.cross_entropy(logits, labels).item(),
        "calibration_error": calibration_error(logits.softmax(1), labels),
        "calibration_error_uncalibrated": calibration_error((logits * temperature).softmax(1), labels),
    }


def measure_classes(logits: Tensor, labels: Tensor, class_names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision and recall of each class, by its name; 0 for a class that is never predicted, or of which none is."""
    matrix = torch.bincount(labels * len(class_names) + logits.argmax(1), minlength=len(class_names) ** 2)
    matrix = matrix.view(len(class_names), -1).double()  # (actual, predicted)
    precision, recall = matrix.diag() / matrix.sum(0).clamp(min=1), matrix.diag() / matrix.sum(1).clamp(min=1)
    return {name: {"precision": precision[k].item(), "recall": recall[k].item()} for k, name in enumerate(class_names)}


def without_wrong_labels(logits: Tensor, labels: Tensor, wrong: Sequence[int]) -> dict[str, float]:
    """Accuracy and its interval on the test images whose label is not known to be wrong.

    Args:
        logits: float (N, classes).
        labels: int64 (N,).
        wrong: indices of the images to leave out, below N.
    """
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[list(wrong)] = False
    return accuracy_with_interval(logits[keep].argmax(1) == labels[keep])


def worst_mistakes(logits: Tensor, labels: Tensor, count: int) -> np.ndarray:
    """Indices of the wrong answers, the most confident first: int64 (at most count,)."""
    losses = F.cross_entropy(logits, labels, reduction="none")
    wrong = (logits.argmax(1) != labels).nonzero().flatten()
    return wrong[losses[wrong].argsort(descending=True, stable=True)][:count].numpy()
