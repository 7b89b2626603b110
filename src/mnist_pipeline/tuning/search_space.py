"""Which values a trial may take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter that a study searches.

    Attributes:
        distribution: where its values come from.
        when: values of other hyperparameters, one of which each must have; without them this one is not sampled.
    """

    distribution: BaseDistribution
    when: Mapping[str, Sequence[Any]] | None = None


def suggest(trial: BaseTrial, space: Mapping[str, Parameter]) -> dict[str, Any]:
    """Sample a trial's values for those parameters of the space whose `when` holds."""
    values: dict[str, Any] = {}
    for name, parameter in space.items():
        if all(values.get(other) in allowed for other, allowed in (parameter.when or {}).items()):
            values[name] = sample(trial, name, parameter.distribution)
    return values


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
