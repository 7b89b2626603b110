"""One trial: its sampler, how it is run, and what became of it.

A trial's states are Optuna's, of which FAIL has two meanings:

    WAITING ──► RUNNING ──► COMPLETE   it has a value
                   ├──────► PRUNED     it fell behind others
                   └──────► FAIL       failed: its values do not work; it has the user attribute "error"
                                       interrupted: its process died, was stopped, or met another error

COMPLETE, PRUNED and failed trials are finished. An interrupted trial is queued once more, with the same values, when
the study resumes: by Optuna's own callback, up to RETRIES times; after that it counts as failed.

A trial trains for a short time. The best ones and the default values are then trained again for longer: a retraining is
a trial of another study, with the number of the trial that it repeats in the user attribute RETRAINS.
"""

import errno
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import torch
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from mnist_pipeline.console import PipelineError
from mnist_pipeline.training.loop import Diverged

log = logging.getLogger(__name__)

N_STARTUP_TRIALS = 5  # trials before TPE has enough to learn from
RETRAINS = "retrains"  # user attribute of a retraining: the number of the trial that it repeats
RETRIES = 3  # how often a trial whose process died is run again


class FailedTrial(PipelineError):
    """A trial whose values do not work; the study continues without it. See `is_fault_of_values`."""


def make_sampler(seed: int, ordinal: int) -> TPESampler:
    """A sampler for one trial, seeded by the trial's place in the study: a resumed study samples what it would have."""
    mixed = np.random.SeedSequence((seed, ordinal)).generate_state(1)[0]
    return TPESampler(n_startup_trials=N_STARTUP_TRIALS, seed=int(mixed))


def run_one(study: optuna.Study, objective: Callable[[optuna.Trial], float]) -> None:
    """Run one trial. Where its values do not work, their error is recorded; any other error interrupts it."""

    def run_and_record(trial: optuna.Trial) -> float:
        try:
            return float(objective(trial))
        except optuna.TrialPruned:
            raise
        except Exception as error:
            if is_fault_of_values(error):
                reason = f"{type(error).__name__}: {error}"[:500]
                trial.set_user_attr("error", reason)
                raise FailedTrial(reason) from error
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

    Those of some dead Ray tasks; or of any process, which must then be the only one that used the study.
    """
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        if tasks is None or trial.user_attrs.get("task") in tasks:
            study.tell(trial.number, state=TrialState.FAIL)
    repeated = {number for trial in study.trials for number in list_repeated(trial)}
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        retry = RetryHeartbeatStaleTrialCallback(RETRIES)
    for trial in study.get_trials(states=[TrialState.FAIL]):
        if not is_finished(trial) and trial.number not in repeated:
            retry(study, trial)


def list_repeated(trial: FrozenTrial) -> list[int]:
    """The numbers of the interrupted trials that this one repeats."""
    return list(trial.system_attrs.get("retry_history", []))


def error_of(trial: FrozenTrial) -> str | None:
    """Why a trial failed, with the error's kind first; None if it did not fail, or has to be repeated."""
    if trial.state != TrialState.FAIL:
        return None
    if len(list_repeated(trial)) >= RETRIES:
        return f"Died: its process ended {RETRIES + 1} times, or an error ended it; perhaps there is too little memory"
    error = trial.user_attrs.get("error")
    return str(error) if error else None


def is_finished(trial: FrozenTrial) -> bool:
    """Whether a trial is complete, pruned or failed, and not interrupted."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or error_of(trial) is not None


def describe_values(values: Mapping[str, Any]) -> str:
    """Hyperparameters in one line."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def rank(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials, the highest value first, the earlier of equals first."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return sorted(complete, key=lambda trial: (-(trial.value or 0), trial.number))
