"""One trial: its sampler, how it is run, and what became of it.

A trial's states are Optuna's, of which FAIL has three meanings:

    WAITING ──► RUNNING ──► COMPLETE   it has a value
                   ├──────► PRUNED     it fell behind others
                   └──────► FAIL       failed: its values do not work; it has the user attribute "error"
                                       interrupted: its process died or was stopped; it has neither attribute
                                       ended by a fault of the database, the disk, the data or the code: "fault"

COMPLETE, PRUNED and failed trials are finished. The others are queued once more, with the same values, when the study
resumes: an interrupted trial by Optuna's own callback, which notes the numbers of the trials that it repeats, up to
RETRIES of them (after that it counts as failed); a trial with a fault as often as it takes, under "repeats".
"""

import errno
import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import optuna
import torch
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.samplers import TPESampler
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from mnist_pipeline.console import PipelineError
from mnist_pipeline.training.loop import Diverged

log = logging.getLogger(__name__)

N_STARTUP_TRIALS = 5  # random trials before TPE has enough to learn from
MARGIN = 2.0  # standard errors by which another trial has to be better than the initial ones
RETRIES = 3  # how often a trial whose process died is run again


class FailedTrial(PipelineError):
    """A trial whose values do not work; the study continues without it. See `is_fault_of_values`."""


def make_sampler(seed: int, ordinal: int) -> TPESampler:
    """A sampler for one trial, seeded by the trial's place in the study: a resumed study samples what it would have."""
    mixed = np.random.SeedSequence((seed, ordinal)).generate_state(1)[0]
    return TPESampler(n_startup_trials=N_STARTUP_TRIALS, seed=int(mixed))


def run_one(study: optuna.Study, objective: Callable[[optuna.Trial], float]) -> None:
    """Run one trial. Where its values do not work, their error is recorded; any other error is recorded and raised."""

    def run_and_record(trial: optuna.Trial) -> float:
        try:
            return float(objective(trial))
        except optuna.TrialPruned:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"[:500]
            if is_fault_of_values(error):
                trial.set_user_attr("error", reason)
                raise FailedTrial(reason) from error
            with suppress(SQLAlchemyError, StorageInternalError):  # if the database is at fault, it cannot record it
                trial.set_user_attr("fault", reason)
                values = describe_values(trial.params)
                log.error("Trial %d (%s) was ended by an error; the next run repeats it.", trial.number, values)
            raise

    study.optimize(run_and_record, n_trials=1, catch=(FailedTrial,))


def is_fault_of_values(error: Exception) -> bool:
    """Whether an error says that a trial's values do not work: they diverge, or need more memory than there is."""
    if isinstance(error, Diverged | MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    words = ("can't allocate memory", "not enough memory", "out of memory")  # the CPU's allocators, CUDA's libraries
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def retry_interrupted(study: optuna.Study, tasks: Sequence[str] | None = None) -> None:
    """Fail the trials that a killed process left RUNNING, and queue each unfinished one once more.

    Args:
        study: if `tasks` is None, this process must be its only user: a trial that is still marked RUNNING was then
            left by a killed process.
        tasks: the Ray tasks, all dead, whose trials are to be failed.
    """
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        if tasks is None or trial.user_attrs.get("task") in tasks:
            study.tell(trial.number, state=TrialState.FAIL)
    repeated = {number for trial in study.trials for number in (*list_repeated(trial), trial.user_attrs.get("repeats"))}
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        retry = RetryHeartbeatStaleTrialCallback(RETRIES)
    for trial in study.get_trials(states=[TrialState.FAIL]):
        if is_finished(trial) or trial.number in repeated:
            continue
        if "fault" in trial.user_attrs:  # no process died, so this does not count as one of the RETRIES
            values = trial.system_attrs.get("fixed_params", {}) | trial.params
            study.enqueue_trial(values, user_attrs={"repeats": trial.number})
        else:
            retry(study, trial)


def list_repeated(trial: FrozenTrial) -> list[int]:
    """The numbers of the interrupted trials that this one repeats."""
    return list(trial.system_attrs.get("retry_history", []))


def error_of(trial: FrozenTrial) -> str | None:
    """Why a trial failed, with the error's kind first; None if it did not fail, or has to be repeated."""
    if trial.state != TrialState.FAIL or "fault" in trial.user_attrs:
        return None
    if len(list_repeated(trial)) >= RETRIES:
        return f"Died: its process ended {RETRIES + 1} times without an error; perhaps there is too little memory"
    error = trial.user_attrs.get("error")
    return str(error) if error else None


def is_finished(trial: FrozenTrial) -> bool:
    """Whether a trial is complete, pruned or failed, and not interrupted or ended by a fault."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or error_of(trial) is not None


def describe_values(values: Mapping[str, Any]) -> str:
    """Hyperparameters in one line."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def find_best(study: optuna.Study) -> FrozenTrial | None:
    """The complete trial with the highest value, the earliest of equals; None if there is none."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return min(complete, key=lambda trial: (-(trial.value or 0), trial.number), default=None)


def choose_trial(study: optuna.Study, initial_trials: Sequence[Mapping[str, Any]], images: int) -> FrozenTrial | None:
    """The trial whose values the training takes: the best one, if it is clearly better than the initial ones.

    The values of the initial trials are known to be good. What is ahead of them by less than MARGIN standard errors is
    ahead by chance, or because it learns faster in a short trial: trained for longer, it did worse (bench_tuning.py).

    Args:
        study: with any number of complete trials; None is returned if there is none.
        initial_trials: their values.
        images: on how many of them each accuracy was measured.
    """
    best = find_best(study)
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    given = [dict(values) for values in initial_trials]
    initial = [trial for trial in complete if trial.system_attrs.get("fixed_params") in given]
    if best is None or not initial:
        return best
    known = max(initial, key=lambda trial: (trial.value or 0, -trial.number))
    mean = ((best.value or 0) + (known.value or 0)) / 2
    standard_error = math.sqrt(2 * mean * (1 - mean) / images)  # of the difference of two accuracies
    return best if (best.value or 0) - (known.value or 0) > MARGIN * standard_error else known
