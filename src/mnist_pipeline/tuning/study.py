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
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial

from mnist_pipeline.training.hyperparameters import WEIGHT_DECAY
from mnist_pipeline.tuning.choice import choose_trial, find_candidates, find_default_trial
from mnist_pipeline.tuning.objective import Objective
from mnist_pipeline.tuning.progress import Progress
from mnist_pipeline.tuning.results import summarise, write_results
from mnist_pipeline.tuning.search_space import Space, possible_values
from mnist_pipeline.tuning.storage import TuningError, is_local, opened_study, readable_storage_errors
from mnist_pipeline.tuning.trials import RETRAINS, is_finished, make_sampler, rank, retry_interrupted, run_one

log = logging.getLogger(__name__)

N_COMPLETE_TRIALS = 4  # complete trials that the median pruner needs before it compares


def tune(
    objective: Objective,
    initial_trials: Sequence[Mapping[str, Any]],
    *,
    trials: int,
    retrained_trials: int,
    seconds: float,
    storage: str,
    workers: int,
    folder: Path,
) -> optuna.Study:
    """Run a study, or resume it if the storage has it already, and write what it found.

    The same arguments on the same machine give the same best values, interrupted or not, unless `seconds` ends it early
    or several workers share it. A trial that diverges or runs out of memory has failed; any other error ends the study.

    Args:
        objective: what a trial does.
        initial_trials: values that are tried before the sampler's own, after the default ones; what they leave out has
            its default.
        trials: finished short trials that the study ends with, those of earlier runs included.
        retrained_trials: so many of the best are trained again, next to the default values.
        seconds: of the whole study. After half of them no further short trial starts, but for the default and initial
            ones, and one at least is completed; retrainings start if they are expected to fit into the other half.
        storage: SQLAlchemy's URL of the study's database.
        workers: trials that run at a time; above 1 only in a server's database.
        folder: gets best_params.yaml, trials.csv, study.json and the plots.

    Raises:
        TuningError: the storage or the initial trials do not suit, or no trial was completed.
    """
    check_workers(workers, storage)
    check_possible(initial_trials, objective.space)
    first = [complete(values, objective) for values in ({}, *initial_trials)][:trials]
    log_missing_defaults(objective, first[0])
    name = objective.name
    with (
        readable_storage_errors(storage),
        opened_study(name, storage, make_pruner(objective.pruner)) as study,
        opened_study(f"{name}-retrained", storage, NopPruner()) as retrained,
    ):
        progress = Progress(study, trials, seconds / 2, len(first))
        if progress.may_start():
            for values in first:
                study.enqueue_trial(values, skip_if_exists=True)
        run(study, objective, progress, storage, workers)
        default = find_default_trial(study, first[0])
        candidates = find_candidates(study, default, retrained_trials)
        waiting = find_untrained(retrained, candidates)
        obstacle = find_obstacle(study, objective, candidates, len(waiting), seconds / 2, workers)
        if not obstacle:
            total = enqueue_retrainings(retrained, waiting)
            run(retrained, objective, Progress(retrained, total, math.inf, name="retrain"), storage, workers)
        choice = choose_trial(candidates, default, rank(retrained), obstacle)
        write_results(study, retrained, choice, folder)
        print(summarise(study, retrained, choice))
    if len(progress.seen) < trials:
        log.info("Half of %g s were over after %d of %d trials.", seconds, len(progress.seen), trials)
    return study


def check_workers(workers: int, storage: str) -> None:
    """Refuse several workers on a file."""
    if workers > 1 and is_local(storage):
        raise TuningError(
            f"tune.workers = {workers}, but {storage} is a file, which one worker can write to. Set tune.workers to 1, "
            "or name a PostgreSQL database: export MNIST_PIPELINE_STORAGE=postgresql://user:password@host/database"
        )


def complete(values: Mapping[str, Any], objective: Objective) -> dict[str, Any]:
    """Some values and the defaults of the others that are searched, without those outside of the search space."""
    every = asdict(objective.fixed) | dict(values)
    if every["weight_decay"] is None:
        every["weight_decay"] = WEIGHT_DECAY[every["optimizer"]]
    return possible_values(every, objective.space)


def log_missing_defaults(objective: Objective, defaults: Mapping[str, Any]) -> None:
    """Log which default values the first trial cannot have."""
    for name in objective.space.keys() - defaults.keys():
        log.info("%s: its default is not in tune.search_space, so the first trial has a random value.", name)


def check_possible(initial_trials: Sequence[Mapping[str, Any]], space: Space) -> None:
    """Refuse values of initial trials that the search space does not have; Optuna would silently replace them."""
    for values in initial_trials:
        for name in values.keys() - possible_values(values, space).keys():
            raise TuningError(f"tune.initial_trials: {name} = {values[name]!r} is none of the values of {space[name]}")


def run(study: optuna.Study, objective: Objective, progress: Progress, storage: str, workers: int) -> None:
    """Run trials until the progress has enough: in this process, or on Ray where the storage is a server's."""
    with progress:
        if is_local(storage):
            retry_interrupted(study)
            run_here(study, objective, progress, objective.seed)
        else:
            from mnist_pipeline.tuning import distributed  # needs Ray, an extra

            distributed.run(study, objective, progress, objective.seed, storage, workers)


def enqueue_retrainings(retrained: optuna.Study, waiting: Sequence[FrozenTrial]) -> int:
    """Queue the retrainings that are not queued yet, and return how many finished ones there will be in all."""
    trials = retrained.get_trials(deepcopy=False)
    known = {trial.user_attrs[RETRAINS] for trial in trials}
    for trial in waiting:
        if trial.number not in known:
            retrained.enqueue_trial(trial.params, user_attrs={RETRAINS: trial.number})
    return sum(is_finished(trial) for trial in trials) + len(waiting)


def find_untrained(retrained: optuna.Study, candidates: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The candidates whose retraining is not finished."""
    trials = retrained.get_trials(deepcopy=False)
    finished = {trial.user_attrs[RETRAINS] for trial in trials if is_finished(trial)}
    return [trial for trial in candidates if trial.number not in finished]


def find_obstacle(
    study: optuna.Study,
    objective: Objective,
    candidates: Sequence[FrozenTrial],
    waiting: int,
    seconds: float,
    workers: int,
) -> str:
    """Why so many waiting candidates are not trained again within some seconds; empty where nothing hinders it."""
    if len(candidates) < 2:
        return "there is no other trial to compare them with"
    times = [trial.user_attrs.get("training_seconds", 0.0) for trial in rank(study)]
    factor = objective.images_per_retraining / objective.images_per_short_trial
    expected = statistics.median(times) * factor * waiting / max(1, min(workers, waiting))
    if expected <= seconds:
        return ""
    return (
        f"to train them and the best {len(candidates) - 1} again, with {objective.images_per_retraining} images each, "
        f"takes some {expected:.0f} s. For a choice set tune.seconds to {math.ceil(2 * expected)} or more"
    )


def make_pruner(name: str) -> BasePruner:
    """The pruner by its name in params.yaml; evaluations are numbered from 1."""
    match name:
        case "halving":
            return SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
        case "median":
            return MedianPruner(N_COMPLETE_TRIALS, n_warmup_steps=1)
        case "none":
            return NopPruner()
    raise TuningError(f"pruner = {name!r}, but it is one of halving, median, none")


def run_here(study: optuna.Study, objective: Callable[[optuna.Trial], float], progress: Progress, seed: int) -> None:
    """Run trials one at a time."""
    while progress.may_start():
        study.sampler = make_sampler(seed, len(progress.seen))
        run_one(study, objective)
        progress.update()
