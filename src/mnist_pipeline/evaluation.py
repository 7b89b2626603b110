"""What a trained network does on images that it has not seen."""

import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

BINS = 15  # of the reliability curve, as in Guo et al. (2017)

# MNIST test images whose label fewer than three of five reviewers agreed with: Northcutt et al., "Pervasive Label
# Errors in Test Sets Destabilize Machine Learning Benchmarks" (arXiv 2103.14749), their published votes.
WRONG_LABELS = (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that makes softmax(logits / temperature) likeliest (Guo et al., 2017), 0.05..20.

    Where every answer is right, as on a few validation images, the likelihood grows without end as the temperature
    falls, and every answer would be called certain; the temperature is 1 then, which changes nothing.

    Args:
        logits: float (N, classes), of validation images.
        labels: int64 (N,).
    """

    if bool((logits.argmax(1) == labels).all()):
        return 1.0

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits.double() / math.exp(log_temperature), labels).item()

    best = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded")
    return math.exp(best.x)


def interval(correct: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of successes, both ends in 0..1."""
    z, share = 1.959964, correct / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return centre - half, centre + half


def shares(correct: Tensor) -> dict[str, float]:
    """Accuracy with its 95 % interval, from bool (N,)."""
    low, high = interval(int(correct.sum()), len(correct))
    return {"accuracy": correct.double().mean().item(), "accuracy_low": low, "accuracy_high": high}


def reliability(probabilities: Tensor, labels: Tensor) -> list[dict[str, float]]:
    """How often answers of like confidence are right: a row for each bin that holds any.

    Args:
        probabilities: float (N, classes).
        labels: int64 (N,).
    """
    confidence, answer = probabilities.max(1)
    correct = answer == labels
    which = (confidence * BINS).long().clamp(max=BINS - 1)
    return [
        {
            "confidence": confidence[mine].mean().item(),
            "accuracy": correct[mine].double().mean().item(),
            "images": int(mine.sum()),
        }
        for mine in (which == bin for bin in range(BINS))
        if mine.any()
    ]


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Expected calibration error, 0..1: the mean gap between confidence and accuracy over the images."""
    rows = reliability(probabilities, labels)
    return sum(row["images"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / max(1, len(labels))


def measure(logits: Tensor, labels: Tensor, temperature: float, class_names: list[str]) -> dict[str, Any]:
    """Every figure of an evaluation.

    Args:
        logits: float (N, classes).
        labels: int64 (N,).
        temperature: fitted on validation images.
        class_names: one for each class.

    Returns:
        JSON-able: accuracy with its 95 % interval, loss, calibration error before and after the temperature, and
        precision and recall of each class.
    """
    answers, calibrated = logits.argmax(1), (logits / temperature).softmax(1)
    matrix = torch.bincount(labels * len(class_names) + answers, minlength=len(class_names) ** 2)
    matrix = matrix.view(len(class_names), -1).double()  # (actual, predicted)
    precision, recall = matrix.diag() / matrix.sum(0).clamp(min=1), matrix.diag() / matrix.sum(1).clamp(min=1)
    return {
        **shares(answers == labels),
        "images": len(labels),
        "errors": int((answers != labels).sum()),
        "loss": F.cross_entropy(logits / temperature, labels).item(),
        "calibration_error": calibration_error(calibrated, labels),
        "calibration_error_uncalibrated": calibration_error(logits.softmax(1), labels),
        "per_class": {
            name: {"precision": precision[k].item(), "recall": recall[k].item()} for k, name in enumerate(class_names)
        },
    }


def without_wrong_labels(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and its interval on MNIST's test images, the 15 with labels known to be wrong left out."""
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[list(WRONG_LABELS)] = False
    return shares(logits[keep].argmax(1) == labels[keep])


def worst_mistakes(logits: Tensor, labels: Tensor, count: int) -> np.ndarray:
    """Indices of the wrong answers, the most confident first: int64 (at most count,)."""
    losses = F.cross_entropy(logits, labels, reduction="none")
    wrong = (logits.argmax(1) != labels).nonzero().flatten()
    return wrong[losses[wrong].argsort(descending=True)][:count].numpy()
