"""The temperature that makes a network's confidence true."""

import math

from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature, 0.05..20, that makes softmax(logits / temperature) likeliest (Guo et al., 2017).

    Where every answer is right, as on a few validation images, the likelihood grows without end as the temperature
    falls, and every answer would be called certain; the temperature is 1 then, which changes nothing.
    """

    if bool((logits.argmax(1) == labels).all()):
        return 1.0

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits.double() / math.exp(log_temperature), labels).item()

    best = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded")
    return math.exp(best.x)
