"""A study over many processes: Ray places its trials, a server's database holds them.

A trial is one Ray task. Ray decides where it runs and notices when its worker dies; Optuna stores its evaluations,
prunes it, and queues it once more when its heartbeat stops.
"""

import logging
import os
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.storages import fail_stale_trials
from optuna.trial import TrialState

from mnist_pipeline.training.runtime import configure
from mnist_pipeline.tuning.storage import HEARTBEAT, TuningError, make_study, opened_storage
from mnist_pipeline.tuning.trials import RETRIES, Progress, make_sampler, retry_interrupted, run_one

try:
    import ray
except ImportError as error:
    raise TuningError("a study in a server's database runs on Ray: pip install '.[distributed]'") from error

log = logging.getLogger(__name__)
POLL = 1.0  # seconds between two updates of the progress


def run(
    study: optuna.Study,
    objective: Callable[[optuna.Trial], float],
    progress: Progress,
    seed: int,
    storage: str,
    workers: int,
    heartbeat: int = HEARTBEAT,
) -> None:
    """Run a study's trials as Ray tasks: on the cluster that RAY_ADDRESS names, else on this machine.

    The storage's URL holds a password: it reaches the workers as data, never as a log line. Raises TuningError where
    workers fail and no trial finishes, or an error ended a trial that is not the fault of its values.
    """
    connect(workers)
    started: list[str] = []
    try:
        cpus, gpus = resources(workers)
        log.info("%d workers, each with %d CPUs and %g GPUs.", workers, cpus, gpus)
        start_task = ray.remote(one_trial).options(num_cpus=cpus, num_gpus=gpus, max_retries=0)
        job = ray.put((study.study_name, storage, study.pruner, heartbeat, objective, seed, cpus))
        running: dict[Any, str] = {}
        first = len(progress.seen)
        lost = 0  # workers, since a trial finished
        while True:
            seen = len(progress.seen)
            with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
                fail_stale_trials(study)
            progress.update()
            if len(progress.seen) > seen:
                lost = 0
            # RUNNING trials whose worker has died count against the budget until the heartbeat's timeout fails them.
            in_database = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
            orphans = sum(trial.user_attrs.get("task") not in running.values() for trial in in_database)
            while len(running) < workers and progress.may_start(len(running) + orphans):
                started.append(uuid.uuid4().hex)
                running[start_task.remote(job, started[-1], first + len(started) - 1)] = started[-1]
            if not running and not orphans:
                return
            if not running:
                time.sleep(POLL)
                continue
            ray.wait(list(running), timeout=POLL, fetch_local=False)  # until one has ended; others may have, too
            ended, _ = ray.wait(list(running), num_returns=len(running), timeout=0, fetch_local=False)
            for task in ended:
                del running[task]
                if reason := why_lost(task):
                    log.warning("A worker was lost, its trial is run again: %s", reason)
                    lost += 1
                    if lost > RETRIES * workers:
                        raise TuningError(f"{lost} workers were lost and no trial finished: {reason}")
    finally:
        ray.shutdown()
        retry_interrupted(study, started)


def one_trial(
    job: tuple[str, str, BasePruner, int, Callable[[optuna.Trial], float], int, int], task: str, ordinal: int
) -> None:  # pragma: no cover
    """Run one trial, marked with its task."""
    name, storage, pruner, heartbeat, objective, seed, cpus = job
    configure()
    torch.set_num_threads(cpus)

    def run_marked(trial: optuna.Trial) -> float:
        trial.set_user_attr("task", task)
        return objective(trial)

    with opened_storage(storage, heartbeat) as database:
        study = make_study(name, database, pruner)
        study.sampler = make_sampler(seed, ordinal)
        run_one(study, run_marked)


def connect(workers: int) -> None:
    """Join the cluster that RAY_ADDRESS names, and send it this package; or start Ray on the loopback address."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address := os.environ.get("RAY_ADDRESS"):
        package = {"py_modules": [str(Path(__file__).parents[1])]}
        ray.init(address=address, runtime_env=package, **common)
    else:
        cpus = max(workers, os.cpu_count() or 1)
        ray.init("local", num_cpus=cpus, include_dashboard=False, _node_ip_address="127.0.0.1", **common)


def resources(workers: int) -> tuple[int, float]:
    """A worker's CPUs and GPUs: as many CPUs as let all workers run at once; a GPU, or a part of one."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node.get("CPU", 0)) for node in nodes]
    fitting = [share for share in range(1, max(cores) + 1) if sum(count // share for count in cores) >= workers]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    return max(fitting, default=1), 1 / -(-workers // gpus) if gpus else 0.0


def why_lost(task: Any) -> str:
    """Why a task's worker died, or could not reach the database; empty if the trial was run.

    Raises TuningError where an error ended the trial.
    """
    try:
        ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TuningError):
            return str(error.cause)
        log.error("%s", error)  # with the worker's stack trace
        raise TuningError(f"a trial was ended by {type(error.cause).__name__}: {error.cause}") from None
    except ray.exceptions.RayError as error:
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return ""
