"""Which trial's values the training takes: the default ones, unless another trial beats them when trained for longer.

A short trial prefers values that learn fast, and little augmentation. So the best trials and the default values are
trained again, for a larger part of the final training, from other first weights. All retrainings answer the same
validation images, so two of them are compared image by image (McNemar, 1947): only the images count that one of them
gets right and the other wrong.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from mnist_pipeline.tuning.trials import RETRAINS, is_retraining

MARGIN = 1.0  # standard errors by which a retraining has to be better than that of the default values


@dataclass(frozen=True)
class Choice:
    """The values that the training takes, and why.

    Attributes:
        trial: the short trial that has these values.
        reason: a sentence.
        retraining: the retraining of that trial, if there is one.
    """

    trial: FrozenTrial
    reason: str
    retraining: FrozenTrial | None = None


def find_candidates(study: optuna.Study, defaults: Mapping[str, Any], count: int) -> list[FrozenTrial]:
    """The trials to train again: that of the default values first, if it did not fail, then the best others."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if not is_retraining(trial)]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    found = find_default_trial(trials, defaults)
    best = sorted(complete, key=lambda trial: (-(trial.value or 0), trial.number))
    candidates = [found] if found else []
    for trial in best:
        if all(trial.params != other.params for other in candidates):
            candidates.append(trial)
    return candidates[: count + bool(found)]


def find_default_trial(trials: Sequence[FrozenTrial], defaults: Mapping[str, Any]) -> FrozenTrial | None:
    """The short trial of the default values, complete or pruned."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    given = [trial for trial in trials if trial.system_attrs.get("fixed_params") == defaults]
    return next((trial for trial in given if trial.state in states and not is_retraining(trial)), None)


def expect_seconds(study: optuna.Study, images_per_trial: int, images: int) -> float:
    """How long the training of so many images takes, by the short trials that are complete."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    times = [trial.duration for trial in complete if trial.duration and not is_retraining(trial)]
    return statistics.median(time.total_seconds() for time in times) * images / images_per_trial


def count_retrainings(study: optuna.Study) -> int:
    """How many trials are trained again, or have been; an interrupted retraining and its repetition are one."""
    return len({trial.user_attrs[RETRAINS] for trial in study.get_trials(deepcopy=False) if is_retraining(trial)})


def choose_trial(
    study: optuna.Study, candidates: Sequence[FrozenTrial], defaults: Mapping[str, Any], obstacle: str = ""
) -> Choice | None:
    """Choose among the candidates by their retrainings.

    Args:
        study: with any number of complete trials; None is returned if there is none.
        candidates: what `find_candidates` found.
        defaults: the default values.
        obstacle: why nothing was trained again, if so.
    """
    if not candidates:
        return None
    default = find_default_trial(candidates, defaults)
    numbers = {trial.number: trial for trial in candidates}
    retrainings = {
        trial.user_attrs[RETRAINS]: trial
        for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        if trial.user_attrs.get(RETRAINS) in numbers
    }
    best = max(retrainings.values(), key=lambda trial: (trial.value or 0, -trial.number), default=None)
    if default is None:
        chosen = numbers[best.user_attrs[RETRAINS]] if best else candidates[0]
        return Choice(chosen, f"The default values failed; trial {chosen.number} is the best of the others.", best)
    known = retrainings.get(default.number)
    if known is None or best is None:
        return Choice(default, f"The default values are taken: {obstacle or 'their retraining failed'}.")
    if best is known:
        reason = f"No trial beats the default values ({known.value:.2%}) when trained for longer, so these are taken."
        return Choice(default, reason, known)
    better, worse = count_differences(best, known)
    number = best.user_attrs[RETRAINS]
    against = f"right where they are wrong on {better} images, wrong where they are right on {worse}"
    if better - worse > MARGIN * math.sqrt(better + worse):
        reason = f"Trained for longer, trial {number} is better than the default values ({against})."
        return Choice(numbers[number], reason, best)
    reason = f"The default values are taken: trained for longer, trial {number} is not clearly better ({against})."
    return Choice(default, reason, known)


def count_differences(first: FrozenTrial, second: FrozenTrial) -> tuple[int, int]:
    """On how many validation images only the first of two retrainings is right, and on how many only the second."""
    wrong, others = set(first.user_attrs["mistakes"]), set(second.user_attrs["mistakes"])
    return len(others - wrong), len(wrong - others)
