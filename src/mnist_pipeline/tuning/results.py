"""What a study found, as files."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from mnist_pipeline.files import write_csv, write_json, write_text
from mnist_pipeline.tuning import plots
from mnist_pipeline.tuning.choice import Choice
from mnist_pipeline.tuning.storage import TuningError
from mnist_pipeline.tuning.trials import RETRAINS, error_of, is_finished, rank


def write_results(study: optuna.Study, retrained: optuna.Study, choice: Choice | None, folder: Path) -> None:
    """Write best_params.yaml, trials.csv, study.json and the plots, each of them whole or not at all.

    Raises:
        TuningError: no trial was completed.
    """
    finished = [trial for trial in study.get_trials(deepcopy=False) if is_finished(trial)]
    if choice is None:
        errors = [error for trial in finished if (error := error_of(trial))]
        raise TuningError(f"none of {len(finished)} trials was completed; the last error: {(errors or ['none'])[-1]}")
    again = [trial for trial in retrained.get_trials(deepcopy=False) if is_finished(trial)]
    write_csv(folder / "trials.csv", tabulate([*finished, *again]))
    best, chosen = rank(study)[0], choice.trial
    write_json(
        folder / "study.json",
        {"study": study.study_name, **count_states(finished), "retrained": len(again)}
        | {"best_trial": best.number, "best_value": best.value}
        | {"chosen_trial": chosen.number, "chosen_value": chosen.value}
        | {"retrained_value": choice.retraining.value if choice.retraining else None, "reason": choice.reason},
    )
    plots.draw(folder, study, retrained, chosen)
    heading = f"# Trial {chosen.number} of study {study.study_name}. {choice.reason}\n"
    write_text(folder / "best_params.yaml", heading + yaml.safe_dump(chosen.params))


def tabulate(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """Make a row for each trial: its number, the one that it repeats, state, value, seconds, hyperparameters, error."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    return [
        {
            "trial": None if RETRAINS in trial.user_attrs else trial.number,
            RETRAINS: trial.user_attrs.get(RETRAINS),
            "state": trial.state.name.lower(),
            "value": trial.value if trial.state == TrialState.COMPLETE else None,
            "last_evaluation": list(trial.intermediate_values.values())[-1] if trial.intermediate_values else None,
            "evaluations": len(trial.intermediate_values),
            "seconds": round(trial.duration.total_seconds(), 2) if trial.duration else None,
            **{name: trial.params.get(name) for name in names},
            "error": error_of(trial),
        }
        for trial in trials
    ]


def count_states(finished: Iterable[FrozenTrial]) -> dict[str, int]:
    """How many trials finished, in all and by state."""
    states = Counter(trial.state for trial in finished)
    kinds = {"pruned": TrialState.PRUNED, "complete": TrialState.COMPLETE, "failed": TrialState.FAIL}
    return {"finished": states.total(), **{name: states[state] for name, state in kinds.items()}}


def summarise(study: optuna.Study, retrained: optuna.Study, choice: Choice | None) -> str:
    """Describe a study's outcome in some lines: the values that the training takes, and why."""
    lines = ["Study statistics:"]
    counts = count_states(trial for trial in study.trials if is_finished(trial))
    counts["retrained"] = len(rank(retrained))
    for name, count in counts.items():
        if count or name != "failed":
            lines.append(f"  Number of {name} trials:  {count}")
    if choice is not None:
        lines += [f"Chosen trial: {choice.trial.number}", f"  Value:  {choice.trial.value}", "  Params:"]
        lines += [f"    {name}: {value}" for name, value in choice.trial.params.items()]
        lines.append(choice.reason)
    return "\n".join(lines)
