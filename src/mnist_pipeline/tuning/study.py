"""The Optuna study: which values of the search space train best.

Short trials, of which the sampler learns; then retrainings of the best ones and of the default values (choice.py).
A study in SQLite runs in this process; one in a server's database runs on Ray (distributed.py). Either way an
interrupted trial is run again (trials.py says when), and a study ends with exactly the trials that were asked for.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial

from mnist_pipeline.training.hyperparameters import WEIGHT_DECAY
from mnist_pipeline.tuning.choice import choose_trial, count_retrainings, expect_seconds, find_candidates
from mnist_pipeline.tuning.objective import Objective
from mnist_pipeline.tuning.progress import Progress
from mnist_pipeline.tuning.results import summarise, write_results
from mnist_pipeline.tuning.search_space import Space, possible_values
from mnist_pipeline.tuning.storage import TuningError, is_local, opened_study, readable_storage_errors
from mnist_pipeline.tuning.trials import RETRAINS, make_sampler, retry_interrupted, run_one

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
    if workers > 1 and is_local(storage):
        raise TuningError(
            f"tune.workers = {workers}, but {storage} is a file, which one worker can write to. Set tune.workers to 1, "
            "or name a PostgreSQL database: export MNIST_PIPELINE_STORAGE=postgresql://user:password@host/database"
        )
    defaults = find_defaults(objective)
    check_possible(initial_trials, objective.space)
    first = [defaults, *(defaults | dict(values) for values in initial_trials)][:trials]
    pruner = make_pruner(objective.pruner)
    with opened_study(objective.name, storage, pruner) as study, readable_storage_errors(storage):
        if is_local(storage):
            retry_interrupted(study)
        progress = Progress(study, trials, seconds / 2, len(first))
        if progress.may_start():
            for values in first:
                study.enqueue_trial(values, skip_if_exists=True)
        run(study, objective, progress, storage, workers)
        candidates = find_candidates(study, defaults, retrained_trials)
        obstacle = find_obstacle(study, objective, candidates, seconds / 2 * workers)
        if not obstacle:
            enqueue_retrainings(study, candidates)
            again = Progress(study, count_retrainings(study), float("inf"), retrainings=True)
            run(study, objective, again, storage, workers)
        choice = choose_trial(study, candidates, defaults, obstacle)
        write_results(study, choice, folder)
        print(summarise(study, choice))
    if len(progress.seen) < trials:
        log.info("Half of %g s were over after %d of %d trials.", seconds, len(progress.seen), trials)
    return study


def find_defaults(objective: Objective) -> dict[str, Any]:
    """The default values of the hyperparameters that are searched, but those that the search space does not have."""
    values = asdict(objective.fixed)
    if values["weight_decay"] is None:
        values["weight_decay"] = WEIGHT_DECAY[objective.fixed.optimizer]
    return possible_values(values, objective.space)


def check_possible(initial_trials: Sequence[Mapping[str, Any]], space: Space) -> None:
    """Refuse values of initial trials that the search space does not have; Optuna would silently replace them."""
    for values in initial_trials:
        for name in values.keys() - possible_values(values, space).keys():
            raise TuningError(f"tune.initial_trials: {name} = {values[name]!r} is none of the values of {space[name]}")


def run(study: optuna.Study, objective: Objective, progress: Progress, storage: str, workers: int) -> None:
    """Run trials until the progress has enough: in this process, or on Ray where the storage is a server's."""
    with progress:
        if is_local(storage):
            run_here(study, objective, progress, objective.seed)
        else:
            from mnist_pipeline.tuning import distributed  # needs Ray, an extra

            distributed.run(study, objective, progress, objective.seed, storage, workers)


def enqueue_retrainings(study: optuna.Study, candidates: Sequence[FrozenTrial]) -> None:
    """Queue a retraining of each candidate that has none yet."""
    known = {trial.user_attrs.get(RETRAINS) for trial in study.get_trials(deepcopy=False)}
    for trial in candidates:
        if trial.number not in known:
            study.enqueue_trial(trial.params, user_attrs={RETRAINS: trial.number})


def find_obstacle(study: optuna.Study, objective: Objective, candidates: Sequence[FrozenTrial], seconds: float) -> str:
    """Why the candidates are not trained again within so many seconds; empty where nothing hinders it."""
    if len(candidates) < 2:
        return "no other trial was completed"
    images = objective.images_per_retraining * len(candidates)
    expected = expect_seconds(study, objective.images_per_short_trial, images)
    if expected <= seconds or count_retrainings(study):
        return ""
    return (
        f"to train them and the best {len(candidates) - 1} again, with {objective.images_per_retraining} images each, "
        f"would take {expected:.0f} s or so. For a choice set tune.seconds to {2 * expected:.0f} or more"
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
