"""The progress of a study: which trials are finished, and whether another one may start."""

import logging
import sys
import time

import optuna
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from mnist_pipeline.tuning.trials import RETRAINS, describe_values, error_of, find_best, is_finished, is_retraining

log = logging.getLogger(__name__)


class Progress:
    """A study's finished trials and its budget, shown as a progress bar with a line for each trial.

    Args:
        study: whose trials are counted.
        trials: finished trials that the study ends with.
        seconds: after so many no further trial starts.
        initial: trials that are run in any case. Otherwise a busy machine, which had time for one of them, would take
            its values.
        retrainings: whether the retrainings are counted, in place of the short trials.
    """

    def __init__(
        self, study: optuna.Study, trials: int, seconds: float, initial: int = 0, *, retrainings: bool = False
    ) -> None:
        self.study, self.trials, self.initial, self.retrainings = study, trials, initial, retrainings
        self.deadline = time.monotonic() + seconds
        self.seen = {trial.number for trial in self.finished()}
        if self.seen and not retrainings:
            log.info("Resuming study %s: %d of %d trials are finished.", study.study_name, len(self.seen), trials)

    def __enter__(self) -> "Progress":
        self.bar = tqdm(total=self.trials, initial=len(self.seen), desc=self.name, unit="trial", disable=None)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    @property
    def name(self) -> str:
        """What the progress bar says."""
        return "retrain" if self.retrainings else "tune"

    def finished(self) -> list[FrozenTrial]:
        """The finished trials that are counted, in the order of their numbers."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if is_finished(trial) and is_retraining(trial) == self.retrainings]

    def may_start(self, running: int = 0) -> bool:
        """Whether another trial may start while so many are running."""
        begun = len(self.seen) + running
        if begun >= self.trials:
            return False
        if time.monotonic() < self.deadline or begun < self.initial:
            return True
        return not running and find_best(self.study) is None

    def update(self) -> None:
        """Show the trials that finished since the last update."""
        for trial in self.finished():
            if trial.number not in self.seen:
                self.seen.add(trial.number)
                tqdm.write(describe(trial), file=sys.stderr)
                best = find_best(self.study)
                self.bar.set_postfix(best=f"{best.value:.2%}" if best else "-", refresh=False)
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
    again = f" (trial {trial.user_attrs[RETRAINS]} again)" if is_retraining(trial) else ""
    return f"trial {trial.number}{again}: {outcome}, {seconds:.0f} s: {describe_values(trial.params)}"
