"""The Optuna study: which values of the search space train best on some thousand training images.

A study in SQLite runs in this process; one in a server's database runs on Ray (distributed.py). Either way an
interrupted trial is run again (trials.py says when), and a study ends with exactly the trials that were asked for.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, PercentilePruner, SuccessiveHalvingPruner

from mnist_pipeline.training.hyperparameters import SHORTEST_EPOCH, adapt_to_size
from mnist_pipeline.tuning.objective import Objective
from mnist_pipeline.tuning.progress import Progress
from mnist_pipeline.tuning.results import summarise, write_results
from mnist_pipeline.tuning.storage import TuningError, is_local, opened_study, readable_storage_errors
from mnist_pipeline.tuning.trials import choose_trial, make_sampler, retry_interrupted, run_one

log = logging.getLogger(__name__)

N_COMPLETE_TRIALS = 4  # complete trials that the pruner needs before it compares


def tune(
    objective: Objective,
    initial_trials: Sequence[Mapping[str, Any]],
    *,
    trials: int,
    seconds: float,
    storage: str,
    workers: int,
    folder: Path,
) -> optuna.Study:
    """Run a study, or resume it if the storage has it already, and write what it found.

    The same arguments on the same machine give the same best values, interrupted or not, unless `seconds` ends the
    study early or several workers share it.

    A trial that diverges or runs out of memory has failed, and counts as finished. Any other error in a trial (of the
    database, the disk, the data, or a bug) ends the study and is raised; the next run repeats that trial.

    Args:
        objective: what a trial does.
        initial_trials: values that are tried before the sampler's own, all of them unless there are more than `trials`,
            and taken unless another trial is clearly better.
        trials: finished trials that the study ends with, those of earlier runs included.
        seconds: after so many no further trial starts, but for the initial ones; and one at least is completed.
        storage: SQLAlchemy's URL of the study's database.
        workers: trials that run at a time; above 1 only in a server's database.
        folder: gets best_params.yaml, trials.csv, study.json and the plots.

    Returns:
        The study. Its connections to the database are closed; reading it opens new ones.

    Raises:
        TuningError: the storage does not work or does not suit `workers`, or no trial was completed.
    """
    if workers > 1 and is_local(storage):
        raise TuningError(
            f"tune.workers = {workers}, but {storage} is a file, which one worker can write to. Set tune.workers to 1, "
            "or name a PostgreSQL database: export MNIST_PIPELINE_STORAGE=postgresql://user:password@host/database"
        )
    log_adaptation(objective)
    pruner = make_pruner(objective.pruner, objective.n_warmup_steps)
    with opened_study(objective.name, storage, pruner) as study, readable_storage_errors(storage):
        if is_local(storage):
            retry_interrupted(study)
        progress = Progress(study, trials, seconds, len(initial_trials))
        if progress.may_start():
            for values in initial_trials:
                study.enqueue_trial(dict(values), skip_if_exists=True)
        with progress:
            if is_local(storage):
                run_here(study, objective, progress, objective.seed)
            else:
                from mnist_pipeline.tuning import distributed  # needs Ray, an extra

                distributed.run(study, objective, progress, objective.seed, storage, workers)
        images = min(objective.evaluation_images, len(objective.dataset.validation.labels))
        chosen = choose_trial(study, initial_trials, images)
        write_results(study, chosen, folder)
        print(summarise(study, chosen))
    if len(progress.seen) < trials:
        log.info("Stopped after %g s with %d of %d trials.", seconds, len(progress.seen), trials)
    return study


def log_adaptation(objective: Objective) -> None:
    """Log which settings few images do not allow."""
    images, validation = len(objective.dataset.train.labels), len(objective.dataset.validation.labels)
    if images < SHORTEST_EPOCH:
        largest = adapt_to_size(replace(objective.fixed, batch_size=images), images).batch_size
        log.info("Of %d training images a trial's batch is %d at most, whatever batch_size says.", images, largest)
    if objective.evaluation_images > validation:
        log.info(
            "tune.evaluation_images = %d is more than the %d validation images: all are used.",
            objective.evaluation_images,
            validation,
        )


def make_pruner(name: str, n_warmup_steps: int) -> BasePruner:
    """The pruner by its name in params.yaml; evaluations are numbered from 1."""
    match name:
        case "median":
            return MedianPruner(N_COMPLETE_TRIALS, n_warmup_steps)
        case "percentile":
            return PercentilePruner(75.0, N_COMPLETE_TRIALS, n_warmup_steps)
        case "halving":
            return SuccessiveHalvingPruner(min_resource=max(1, n_warmup_steps), reduction_factor=2)
        case "none":
            return NopPruner()
    raise TuningError(f"pruner = {name!r}, but it is one of median, percentile, halving, none")


def run_here(study: optuna.Study, objective: Callable[[optuna.Trial], float], progress: Progress, seed: int) -> None:
    """Run trials, one at a time, in this process."""
    while progress.may_start():
        study.sampler = make_sampler(seed, len(progress.seen))
        run_one(study, objective)
        progress.update()
