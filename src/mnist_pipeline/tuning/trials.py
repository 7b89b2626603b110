"""The trials of a study: how one is run, what became of it, and whether another one may start.

Their states are Optuna's, of which FAIL has two meanings:

    WAITING ──► RUNNING ──► COMPLETE   it has a value
                   ├──────► PRUNED     it fell behind others
                   └──────► FAIL       failed: its values do not work; it has the user attribute "error"
                                       interrupted: its process died, was stopped, or met another error

COMPLETE, PRUNED and failed trials are finished. An interrupted trial is queued once more, with the same values, when
the study resumes, up to RETRIES times; after that it counts as failed.
"""

import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from mnist_pipeline.training.loop import Diverged

log = logging.getLogger(__name__)

RETRAINS = "retrains"  # user attribute of a retraining: the number of the trial that it repeats
RETRIES = 3  # how often a trial whose process died is run again


def make_sampler(seed: int, ordinal: int) -> TPESampler:
    """A sampler for one trial, seeded by the trial's place in the study: a resumed study samples what it would have."""
    mixed = np.random.SeedSequence((seed, ordinal)).generate_state(1)[0]
    return TPESampler(n_startup_trials=5, seed=int(mixed))  # with fewer, TPE has too little to learn from


def run_one(study: optuna.Study, objective: Callable[[optuna.Trial], float]) -> None:
    """Run one trial. Where its values do not work, their error is recorded; any other error interrupts it."""

    def run_and_record(trial: optuna.Trial) -> float:
        try:
            return objective(trial)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            if not is_fault_of_values(error):
                log.error("Trial %d was ended by an error; the next run repeats it: %s", trial.number, trial.params)
                raise
            trial.set_user_attr("error", f"{type(error).__name__}: {error}"[:500])
            return math.nan  # which Optuna takes for a failure

    study.optimize(run_and_record, n_trials=1)


def is_fault_of_values(error: Exception) -> bool:
    """Whether an error says that a trial's values do not work: they diverge, or need more memory than there is."""
    if isinstance(error, RuntimeError):  # of PyTorch, on a GPU and on the CPU
        return any(words in str(error) for words in ("out of memory", "can't allocate memory"))
    return isinstance(error, Diverged | MemoryError)


def retry_interrupted(study: optuna.Study, tasks: Sequence[str] | None = None) -> None:
    """Fail the trials that a killed process left RUNNING, and queue each unfinished one once more.

    Those of some dead Ray tasks; or of any process, which must then be the only one that used the study.
    """
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        if tasks is None or trial.user_attrs.get("task") in tasks:
            study.tell(trial.number, state=TrialState.FAIL)
    repeated = {number for trial in study.trials for number in trial.system_attrs.get("retry_history", [])}
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        retry = RetryHeartbeatStaleTrialCallback(RETRIES)
    for trial in study.get_trials(states=[TrialState.FAIL]):
        if error_of(trial) is None and trial.number not in repeated:
            retry(study, trial)


def error_of(trial: FrozenTrial) -> str | None:
    """Why a trial failed, with the error's kind first; None if it did not fail, or has to be repeated."""
    if trial.state != TrialState.FAIL:
        return None
    if len(trial.system_attrs.get("retry_history", [])) >= RETRIES:
        return f"Died: its process ended {RETRIES + 1} times, or an error ended it; perhaps there is too little memory"
    return trial.user_attrs.get("error")


def list_finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that are complete, pruned or failed, and not interrupted, in the order of their numbers."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return [trial for trial in ended if trial.state != TrialState.FAIL or error_of(trial)]


def rank(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials, the highest value first, the earlier of equals first."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return sorted(complete, key=lambda trial: (-(trial.value or 0), trial.number))


class Progress:
    """A study's finished trials and its budget, shown as a progress bar with a line for each trial.

    The study ends with so many finished `trials`. After so many `seconds` no further trial starts, but for the
    `initial` ones: a busy machine, which had time for one of them, would otherwise take its values.
    """

    def __init__(self, study: optuna.Study, trials: int, seconds: float, initial: int = 0) -> None:
        self.study, self.trials, self.initial = study, trials, initial
        self.deadline = time.monotonic() + seconds
        self.seen = {trial.number for trial in list_finished(study)}
        self.bar = tqdm(total=trials, initial=len(self.seen), desc=study.study_name, unit="trial", disable=None)
        if self.seen:
            log.info("Resuming study %s: %d of %d trials are finished.", study.study_name, len(self.seen), trials)

    def may_start(self, running: int = 0) -> bool:
        """Whether another trial may start while so many are running."""
        begun = len(self.seen) + running
        if begun >= self.trials:
            return False
        if time.monotonic() < self.deadline or begun < self.initial:
            return True
        return not running and not rank(self.study)

    def update(self) -> None:
        """Show the trials that finished since the last update."""
        best = rank(self.study)[:1]
        for trial in list_finished(self.study):
            if trial.number not in self.seen:
                self.seen.add(trial.number)
                tqdm.write(describe(trial), file=sys.stderr)
                self.bar.set_postfix(best=f"{best[0].value:.2%}" if best else "-", refresh=False)
                self.bar.update()


def describe(trial: FrozenTrial) -> str:
    """Describe a finished trial in one line."""
    outcome = f"failed ({error_of(trial)})" if trial.state == TrialState.FAIL else f"{trial.value or 0:.2%}"
    if trial.state == TrialState.PRUNED:  # its value is its last evaluation
        outcome = f"pruned at {outcome} after {len(trial.intermediate_values)} evaluations"
    seconds = trial.duration.total_seconds() if trial.duration else 0
    name = f"trial {trial.user_attrs[RETRAINS]} again" if RETRAINS in trial.user_attrs else f"trial {trial.number}"
    params = trial.params.items()
    values = [f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in params]
    return f"{name}: {outcome}, {seconds:.0f} s: {', '.join(values)}"
