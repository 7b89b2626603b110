"""Which trial's values the training takes: the default ones, unless another trial beats them when trained for longer.

A short trial prefers values that learn fast, and little augmentation. So the best trials and the default values are
trained again, for a larger part of the final training, from other first weights. All retrainings answer the same
validation images, so two of them are compared image by image (McNemar, 1947): only the images count that one of them
gets right and the other wrong.
"""

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from mnist_pipeline.tuning.trials import RETRAINS, rank

MARGIN = 1.0  # standard errors by which a retraining has to be better than that of the default values


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
    study: optuna.Study, default: FrozenTrial | None, retrained: optuna.Study, obstacle: str = ""
) -> tuple[FrozenTrial, str]:
    """The short trial whose values the training takes, and the reason, a sentence.

    At least one trial of the study is complete; `obstacle` says why nothing was trained again, if so.
    """
    if obstacle and default:
        return default, f"The default values are taken: {obstacle}."
    retrainings = {trial.user_attrs[RETRAINS]: trial for trial in rank(retrained)}  # the best first
    best = study.trials[next(iter(retrainings), rank(study)[0].number)]
    if default is None or default.number not in retrainings:
        return best, f"The default values failed: trial {best.number} is the best of the others."
    of_default = retrainings[default.number]
    if best.number == default.number:
        return default, f"No trial beats the default values ({of_default.value:.2%}) when trained for longer."
    wrong = set(retrainings[best.number].user_attrs["mistakes"])
    wrong_by_default = set(of_default.user_attrs["mistakes"])
    better, worse = len(wrong_by_default - wrong), len(wrong - wrong_by_default)
    against = f"right where they are wrong on {better} images, wrong where they are right on {worse}"
    if better - worse > MARGIN * math.sqrt(better + worse):
        return best, f"Trained for longer, trial {best.number} is better than the default values ({against})."
    return default, f"The default values are taken: trained for longer, trial {best.number} is no better ({against})."
