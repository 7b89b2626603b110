"""The Optuna study: which values of the search space train best.

Short trials, of which the sampler learns; then retrainings of the best ones and of the default values (choice.py).
A study in SQLite runs in this process; one in a server's database runs on Ray (distributed.py). Either way an
interrupted trial is run again (trials.py says when), and a study ends with exactly the trials that were asked for.
"""

import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

from mnist_pipeline.training.hyperparameters import WEIGHT_DECAY
from mnist_pipeline.tuning.choice import choose_trial, find_candidates, find_default_trial
from mnist_pipeline.tuning.objective import Objective
from mnist_pipeline.tuning.results import write_results
from mnist_pipeline.tuning.storage import TuningError, is_local, make_study, opened_storage
from mnist_pipeline.tuning.trials import (
    RETRAINS,
    Progress,
    error_of,
    list_finished,
    make_sampler,
    rank,
    retry_interrupted,
    run_one,
)

log = logging.getLogger(__name__)

PRUNERS = {  # by their names in params.yaml; evaluations are numbered from 1
    "halving": SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    "median": MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    "none": NopPruner(),
}


def tune(
    objective: Objective,
    initial_trials: Sequence[Mapping[str, Any]],  # tried after the default values, which fill what they leave out
    *,
    trials: int,  # finished short ones that the study ends with, those of earlier runs included
    retrained_trials: int,  # so many of the best are trained again, next to the default values
    seconds: float,
    storage: str,
    workers: int,
    folder: Path,
) -> optuna.Study:
    """Run a study, or resume it if the storage (SQLAlchemy's URL) has it already, and write what it found to a folder.

    The same arguments on the same machine give the same best values, interrupted or not, unless `seconds` ends it early
    or several workers share it. A trial that diverges or runs out of memory has failed; any other error ends the study.

    After half of the seconds no further short trial starts, but for the default and initial ones, and one at least is
    completed. Retrainings start if they are expected to fit into the other half.

    Raises TuningError where the storage or the initial trials do not suit, or no trial was completed.
    """
    if workers > 1 and is_local(storage):
        raise TuningError(
            f"tune.workers = {workers}, but {storage} is a file, which one worker can write to. Set tune.workers to 1, "
            "or name a PostgreSQL database: export MNIST_PIPELINE_STORAGE=postgresql://user:password@host/database"
        )
    first = list_first(objective, initial_trials)[:trials]
    with opened_storage(storage) as database:
        study = make_study(objective.name, database, PRUNERS[objective.pruner])
        retrained = make_study(f"{objective.name}-retrained", database, PRUNERS["none"])
        progress = Progress(study, trials, seconds / 2, len(first))
        if progress.may_start():
            for values in first:
                study.enqueue_trial(values, skip_if_exists=True)
        run(study, objective, progress, objective.seed, storage, workers)
        if len(progress.seen) < trials:
            log.info("Half of %g s were over after %d of %d trials.", seconds, len(progress.seen), trials)
        check_completed(study)
        default = find_default_trial(study, first[0])
        candidates = find_candidates(study, default, retrained_trials)
        queued = {trial.user_attrs[RETRAINS] for trial in retrained.trials}
        total = len(queued | {trial.number for trial in candidates})
        untrained = total - len(list_finished(retrained))
        seconds_per_image = statistics.median(trial.user_attrs["seconds_per_image"] for trial in rank(study))
        expected = seconds_per_image * objective.images_per_retraining * math.ceil(untrained / workers)
        obstacle = find_obstacle(len(candidates), expected, seconds / 2)
        if not obstacle:
            for trial in candidates:
                if trial.number not in queued:
                    retrained.enqueue_trial(trial.params, user_attrs={RETRAINS: trial.number})
            run(retrained, objective, Progress(retrained, total, math.inf), objective.seed, storage, workers)
        chosen, reason = choose_trial(study, default, retrained, obstacle)
        write_results(study, retrained, chosen, reason, folder)
    return study


def check_completed(study: optuna.Study) -> None:
    """Check that a trial was completed; raises TuningError with the last error."""
    if not rank(study):
        errors = [error for trial in study.trials if (error := error_of(trial))]
        last = errors[-1] if errors else "none"
        raise TuningError(f"none of {len(study.trials)} trials was completed; the last error: {last}")


def find_obstacle(candidates: int, expected: float, available: float) -> str:
    """Why candidates are not trained again, or nothing; both times are in seconds."""
    if candidates < 2:
        return "there is no other trial to compare them with"
    if expected > available:
        return (
            f"to compare them with the best other trials takes about {expected:.0f} s of training, but half of "
            f"tune.seconds is {available:g} s. To compare, set tune.seconds to {math.ceil(2 * expected)} or more"
        )
    return ""


def list_first(objective: Objective, initial_trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The values that are tried first: the default ones, then the initial trials, completed by the default ones.

    A default value that the search space does not have is left out: the sampler replaces it. Raises TuningError where
    the search space does not have a value of an initial trial.
    """
    space = objective.space
    for values in initial_trials:
        for name, value in values.items():
            if not is_possible(value, space[name]):
                raise TuningError(f"tune.initial_trials: {name} = {value!r} is none of the values of {space[name]}")
    first = []
    for values in ({}, *initial_trials):
        every = asdict(objective.fixed) | dict(values)
        if every["weight_decay"] is None:
            every["weight_decay"] = WEIGHT_DECAY[every["optimizer"]]
        first.append({name: every[name] for name in space if is_possible(every[name], space[name])})
    return first


def is_possible(value: Any, distribution: BaseDistribution) -> bool:
    """Whether a distribution has a value."""
    try:
        optuna.create_trial(value=0.0, params={"it": value}, distributions={"it": distribution})
    except ValueError:
        return False
    return True


def run(
    study: optuna.Study,
    objective: Callable[[optuna.Trial], float],
    progress: Progress,
    seed: int,
    storage: str,
    workers: int = 1,
) -> None:
    """Run trials until the progress has enough: in this process, or on Ray where the storage is a server's."""
    with progress.bar:
        if not is_local(storage):
            from mnist_pipeline.tuning import distributed  # needs Ray, an extra

            distributed.run(study, objective, progress, seed, storage, workers)
            return
        retry_interrupted(study)
        while progress.may_start():
            study.sampler = make_sampler(seed, len(progress.seen))
            run_one(study, objective)
            progress.update()
