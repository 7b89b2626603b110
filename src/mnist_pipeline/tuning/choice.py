"""Which trial's values the training takes: the default ones, unless another trial beats them when trained for longer.

A short trial prefers values that learn fast, and little augmentation. So the best trials and the default values are
trained again, for a larger part of the final training, from other first weights. All retrainings answer the same
validation images, so two of them are compared image by image (McNemar, 1947): only the images count that one of them
gets right and the other wrong.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from mnist_pipeline.tuning.trials import RETRAINS, rank

MARGIN = 1.0  # standard errors by which a retraining has to be better than that of the default values


@dataclass(frozen=True)
class Choice:
    """The values that the training takes, and why."""

    trial: FrozenTrial  # the short trial that has these values
    reason: str  # a sentence
    retraining: FrozenTrial | None = None  # of that trial


def find_default_trial(study: optuna.Study, defaults: Mapping[str, Any]) -> FrozenTrial | None:
    """The short trial of the default values, complete or pruned; None if it failed."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return next((trial for trial in finished if trial.system_attrs.get("fixed_params") == defaults), None)


def find_candidates(study: optuna.Study, default: FrozenTrial | None, count: int) -> list[FrozenTrial]:
    """The trials to train again: that of the default values first, then so many of the best, each with other values."""
    candidates = [default] if default else []
    most = max(1, count + len(candidates))
    for trial in rank(study):
        if len(candidates) < most and all(trial.params != other.params for other in candidates):
            candidates.append(trial)
    return candidates


def choose_trial(
    candidates: Sequence[FrozenTrial], default: FrozenTrial | None, retrained: Sequence[FrozenTrial], obstacle: str = ""
) -> Choice | None:
    """Choose among the candidates by their retrainings; None where there are no candidates.

    Args:
        candidates: what `find_candidates` found.
        default: the trial of the default values.
        retrained: the retrainings that are complete, of whichever trials, the best first.
        obstacle: why nothing was trained again, if so.
    """
    if not candidates:
        return None
    if obstacle and default:
        return Choice(default, f"The default values are taken: {obstacle}.")
    by_number = {trial.number: trial for trial in candidates}
    retrainings = {trial.user_attrs[RETRAINS]: trial for trial in retrained if trial.user_attrs[RETRAINS] in by_number}
    best = next(iter(retrainings.values()), None)
    of_default = retrainings.get(default.number) if default else None
    if best is None or default is None or of_default is None:
        chosen = by_number[best.user_attrs[RETRAINS]] if best else candidates[0]
        return Choice(chosen, f"The default values failed: trial {chosen.number} is the best of the others.", best)
    if best is of_default:
        reason = f"No trial beats the default values ({best.value:.2%}) when trained for longer, so these are taken."
        return Choice(default, reason, best)
    better, worse = count_differences(best, of_default)
    number = best.user_attrs[RETRAINS]
    against = f"right where they are wrong on {better} images, wrong where they are right on {worse}"
    if better - worse > MARGIN * math.sqrt(better + worse):
        reason = f"Trained for longer, trial {number} is better than the default values ({against})."
        return Choice(by_number[number], reason, best)
    reason = f"The default values are taken: trained for longer, trial {number} is not clearly better ({against})."
    return Choice(default, reason, of_default)


def count_differences(first: FrozenTrial, second: FrozenTrial) -> tuple[int, int]:
    """On how many validation images only the first of two retrainings is right, and on how many only the second."""
    wrong, others = set(first.user_attrs["mistakes"]), set(second.user_attrs["mistakes"])
    return len(others - wrong), len(wrong - others)
