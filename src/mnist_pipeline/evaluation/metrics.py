"""What a trained network does on images that it has not seen."""

from collections.abc import Sequence
from typing import Any

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


def measure(logits: Tensor, labels: Tensor, class_names: list[str], temperature: float) -> dict[str, Any]:
    """Every figure of an evaluation.

    Args:
        logits: calibrated, float (N, classes).
        labels: int64 (N,).
        class_names: one for each class.
        temperature: that the logits were divided by; for the calibration error without it.

    Returns:
        JSON-able: accuracy with its 95 % interval, loss, calibration error before and after the temperature, and
        precision and recall of each class.
    """
    answers = logits.argmax(1)
    matrix = torch.bincount(labels * len(class_names) + answers, minlength=len(class_names) ** 2)
    matrix = matrix.view(len(class_names), -1).double()  # (actual, predicted)
    precision, recall = matrix.diag() / matrix.sum(0).clamp(min=1), matrix.diag() / matrix.sum(1).clamp(min=1)
    return {
        **accuracy_with_interval(answers == labels),
        "images": len(labels),
        "errors": int((answers != labels).sum()),
        "loss": F.cross_entropy(logits, labels).item(),
        "calibration_error": calibration_error(logits.softmax(1), labels),
        "calibration_error_uncalibrated": calibration_error((logits * temperature).softmax(1), labels),
        "per_class": {
            name: {"precision": precision[k].item(), "recall": recall[k].item()} for k, name in enumerate(class_names)
        },
    }


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
