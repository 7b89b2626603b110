"""The progress of a study: which trials are finished, and whether another one may start."""

import logging
import sys
import time

import optuna
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from mnist_pipeline.tuning.trials import RETRAINS, describe_values, error_of, is_finished, rank

log = logging.getLogger(__name__)


class Progress:
    """A study's finished trials and its budget, shown as a progress bar with a line for each trial.

    Args:
        study: whose trials are counted.
        trials: finished trials that the study ends with.
        seconds: after so many no further trial starts.
        initial: trials that are run even after that. Otherwise a busy machine, which had time for one of them, would
            take its values.
        name: what the progress bar says.
    """

    def __init__(
        self, study: optuna.Study, trials: int, seconds: float, initial: int = 0, *, name: str = "tune"
    ) -> None:
        self.study, self.trials, self.initial, self.name = study, trials, initial, name
        self.deadline = time.monotonic() + seconds
        self.seen = {trial.number for trial in self.finished()}
        if self.seen:
            log.info("Resuming study %s: %d of %d trials are finished.", study.study_name, len(self.seen), trials)

    def __enter__(self) -> "Progress":
        self.bar = tqdm(total=self.trials, initial=len(self.seen), desc=self.name, unit="trial", disable=None)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def finished(self) -> list[FrozenTrial]:
        """The finished trials, in the order of their numbers."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if is_finished(trial)]

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
        for trial in self.finished():
            if trial.number not in self.seen:
                self.seen.add(trial.number)
                tqdm.write(describe(trial), file=sys.stderr)
                self.bar.set_postfix(best=f"{best[0].value:.2%}" if best else "-", refresh=False)
                self.bar.update()


def describe(trial: FrozenTrial) -> str:
    """Describe a finished trial in one line."""
    accuracies = trial.intermediate_values
    reached = f"{accuracies[max(accuracies)]:.2%}" if accuracies else "-"
    outcome = {
        TrialState.COMPLETE: f"{trial.value or 0:.2%}",
        TrialState.PRUNED: f"pruned at {reached} after {len(accuracies)} evaluations",
        TrialState.FAIL: f"failed ({error_of(trial)})",
    }[trial.state]
    seconds = trial.duration.total_seconds() if trial.duration else 0
    name = f"trial {trial.user_attrs[RETRAINS]} again" if RETRAINS in trial.user_attrs else f"trial {trial.number}"
    return f"{name}: {outcome}, {seconds:.0f} s: {describe_values(trial.params)}"
