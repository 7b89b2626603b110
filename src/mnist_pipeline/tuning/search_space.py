"""Which values a trial may take: Optuna's distributions, by the name of the hyperparameter."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial

Space = Mapping[str, BaseDistribution]


def suggest(trial: BaseTrial, space: Space) -> dict[str, Any]:
    """Sample a trial's values, by name."""
    return {name: sample(trial, name, distribution) for name, distribution in space.items()}


def sample(trial: BaseTrial, name: str, distribution: BaseDistribution) -> Any:
    """Sample one value."""
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
    raise TypeError(f"{name}: {distribution} is no distribution that can be sampled")


def is_possible(value: Any, distribution: BaseDistribution) -> bool:
    """Whether a distribution has a value."""
    match distribution:
        case CategoricalDistribution():
            return value in distribution.choices
        case IntDistribution(low=low, high=high, step=step) | FloatDistribution(low=low, high=high, step=step):
            steps = (value - low) / step if step else 0.0
            return low <= value <= high and abs(steps - round(steps)) < 1e-8
    return False


def possible_values(values: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Those of some hyperparameters' values that a search space has."""
    return {name: values[name] for name in space if name in values and is_possible(values[name], space[name])}
