"""What a study found, as files."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from mnist_pipeline.files import write_csv, write_json, write_text
from mnist_pipeline.tuning import plots
from mnist_pipeline.tuning.trials import RETRAINS, error_of, list_finished, rank


def write_results(study: optuna.Study, retrained: optuna.Study, chosen: FrozenTrial, reason: str, folder: Path) -> None:
    """Write best_params.yaml, trials.csv, study.json and the plots, each of them whole or not at all; print a summary.

    The training takes the values of the short trial `chosen`; `reason` is a sentence that says why.
    """
    finished, again, best = list_finished(study), list_finished(retrained), rank(study)[0]
    write_csv(folder / "trials.csv", tabulate([*finished, *again]))
    states = Counter(trial.state for trial in finished)
    counts = {
        "finished": len(finished),
        "pruned": states[TrialState.PRUNED],
        "complete": states[TrialState.COMPLETE],
        "failed": states[TrialState.FAIL],
        "retrained": len(again),
    }
    content = {
        "study": study.study_name,
        **counts,
        "best_trial": best.number,
        "best_value": best.value,
        "chosen_trial": chosen.number,
        "chosen_value": chosen.value,
        "reason": reason,
    }
    write_json(folder / "study.json", content)
    plots.draw(folder, study, retrained, chosen)
    heading = f"# Trial {chosen.number} of study {study.study_name}. {reason}\n"
    write_text(folder / "best_params.yaml", heading + yaml.safe_dump(chosen.params))
    print("Study statistics:")
    for state, count in counts.items():
        print(f"  Number of {state} trials:  {count}")
    print(f"Chosen trial: {chosen.number}\n  Value:  {chosen.value}\n  Params: {chosen.params}\n{reason}")


def tabulate(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """Make a row for each trial: its number, the one that it repeats, state, value, seconds, hyperparameters, error."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    return [
        {
            "trial": None if RETRAINS in trial.user_attrs else trial.number,
            RETRAINS: trial.user_attrs.get(RETRAINS),
            "state": trial.state.name.lower(),
            "value": trial.value,  # of a pruned trial: its last evaluation
            "evaluations": len(trial.intermediate_values),
            "seconds": round(trial.duration.total_seconds(), 2) if trial.duration else None,
            **{name: trial.params.get(name) for name in names},
            "error": error_of(trial),
        }
        for trial in trials
    ]
