"""Whether answers of 90 % confidence are right 90 times in 100."""

from torch import Tensor

BINS = 15  # of the reliability curve, as in Guo et al. (2017)


def reliability(probabilities: Tensor, labels: Tensor) -> list[dict[str, float]]:
    """A row for each bin of like confidence that holds any of the probabilities (N, classes); labels are (N,)."""
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
