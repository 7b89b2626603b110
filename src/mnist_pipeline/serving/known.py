"""From a network's logits to the probability that it knows what it sees, and the least that is answered."""

import numpy as np
import torch
from jaxtyping import Float32
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from mnist_pipeline.data.catalogue import are_digits
from mnist_pipeline.training.model_info import KnownInfo, ModelInfo

ANSWERED = 0.999  # of the validation images, where no other least score is asked for
SEED = 2**32  # of the outliers: no seed of a training is as large


def knows_others(info: ModelInfo) -> bool:
    """Whether a model was taught what is of no class: one that reads handwritten digits, or that saw outliers."""
    is_digits = info["reader"] == "handwriting" and are_digits(info["class_names"])
    return is_digits or bool(info["hyperparameters"].get("outliers", {"value": 0})["value"])


def fit_known(
    known: Float32[Tensor, "n classes"],
    unknown: Float32[Tensor, "m classes"],
    temperature: float,
    least: float | None = None,
) -> KnownInfo:
    """Fit a logistic function (Platt, 1999) of log(sum(exp(logits))) to logits of validation images and outliers.

    Below the score `least`, 0 to 1, nothing is answered; None: ANSWERED of the validation images pass.
    """
    scores = torch.cat([known, unknown]).mul(temperature).logsumexp(1).double().numpy()[:, None]
    is_known = np.arange(len(scores)) < len(known)
    fitted = LogisticRegression(C=1e6, class_weight="balanced").fit(scores, is_known)
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    probabilities = 1 / (1 + np.exp(-(slope * scores[is_known, 0] + offset)))
    if least is None:
        least = float(np.quantile(probabilities, 1 - ANSWERED, method="lower"))
    return {"slope": slope, "offset": offset, "least": least}
