"""A study over many processes: Ray places its trials, a server's database holds them.

A trial is one Ray task. Ray decides where it runs and notices when its worker dies; Optuna stores its evaluations,
prunes it, and queues it once more when its heartbeat stops.
"""

import logging
import os
import time
import traceback
import uuid
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner
from optuna.storages import fail_stale_trials
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from mnist_pipeline.training.runtime import configure
from mnist_pipeline.tuning.progress import Progress
from mnist_pipeline.tuning.storage import HEARTBEAT, TuningError, open_study, readable_storage_errors
from mnist_pipeline.tuning.trials import RETRIES, make_sampler, retry_interrupted, run_one

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

    The storage's URL holds a password: it reaches the workers as data, never as a log line.

    Raises:
        TuningError: workers fail and no trial finishes; or an error ended a trial that is not the fault of its values
            (see `trials.is_fault_of_values`).
    """
    connect(workers)
    started: list[str] = []
    try:
        cpus, gpus = resources(workers)
        log.info("%d workers on %d nodes, each with %d CPUs and %g GPUs.", workers, len(alive_nodes()), cpus, gpus)
        start_task = ray.remote(one_trial).options(num_cpus=cpus, num_gpus=gpus, max_retries=0)
        job = ray.put((study.study_name, storage, study.pruner, heartbeat, objective, seed, cpus))
        running: dict[Any, str] = {}
        first, failures = len(progress.seen), 0
        while True:
            seen = len(progress.seen)
            fail_stale(study)
            progress.update()
            failures = failures if len(progress.seen) == seen else 0
            orphans = count_orphans(study, set(running.values()))
            while len(running) < workers and progress.may_start(len(running) + orphans):
                started.append(f"{uuid.uuid4().hex[:12]}")
                running[start_task.remote(job, started[-1], first + len(started) - 1)] = started[-1]
            if not running and not orphans:
                return
            for task in wait_for_ended(list(running)):
                del running[task]
                failures += not succeeded(task, failures, RETRIES * workers)
    finally:
        ray.shutdown()
        retry_interrupted(study, started)


def one_trial(
    job: tuple[str, str, BasePruner, int, Callable[[optuna.Trial], float], int, int], task: str, ordinal: int
) -> tuple[str, str] | None:  # pragma: no cover
    """Run one trial, marked with its task; return an error that is not the fault of its values, and its stack trace.

    They are text, because not every exception can be pickled.
    """
    name, storage, pruner, heartbeat, objective, seed, cpus = job
    configure()
    torch.set_num_threads(cpus)
    study = study_of_worker(name, storage, pruner, heartbeat)
    study.sampler = make_sampler(seed, ordinal)

    def run_marked(trial: optuna.Trial) -> float:
        trial.set_user_attr("task", task)
        return objective(trial)

    with readable_storage_errors(storage):
        try:
            run_one(study, run_marked)
        except (SQLAlchemyError, StorageInternalError):
            raise
        except Exception as error:
            return f"{type(error).__name__}: {error}", traceback.format_exc()
    return None


@lru_cache(maxsize=1)
def study_of_worker(name: str, storage: str, pruner: BasePruner, heartbeat: int) -> optuna.Study:
    """The study, opened once in a process: Ray's workers run many trials."""
    return open_study(name, storage, pruner, heartbeat)


def connect(workers: int) -> None:
    """Join the cluster that RAY_ADDRESS names, and send it this package; or start Ray on the loopback address."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    address = os.environ.get("RAY_ADDRESS")
    if address:
        package = {"py_modules": [str(Path(__file__).parents[1])]}
        ray.init(address=address, runtime_env=package, **common)
    else:
        cpus = max(workers, os.cpu_count() or 1)
        ray.init("local", num_cpus=cpus, include_dashboard=False, _node_ip_address="127.0.0.1", **common)


def alive_nodes() -> list[dict[str, float]]:
    """The resources of each living node of the cluster: CPU, GPU, ..."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def resources(workers: int) -> tuple[int, float]:
    """A worker's CPUs and GPUs: as many CPUs as let all workers run at once; a GPU, or a part of one."""
    nodes = alive_nodes()
    cores = [int(node.get("CPU", 0)) for node in nodes]
    fitting = [share for share in range(1, max(cores) + 1) if sum(count // share for count in cores) >= workers]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    return max(fitting, default=1), 1 / -(-workers // gpus) if gpus else 0.0


def fail_stale(study: optuna.Study) -> None:
    """Fail the trials whose heartbeat stopped, and queue them once more."""
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        fail_stale_trials(study)


def count_orphans(study: optuna.Study, tasks: set[str]) -> int:
    """RUNNING trials whose worker has died. They count against the budget until the heartbeat timeout fails them."""
    running = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
    return sum(trial.user_attrs.get("task") not in tasks for trial in running)


def wait_for_ended(tasks: list[Any]) -> list[Any]:
    """Wait until a task has ended, POLL seconds at most, and return all that have."""
    if not tasks:
        time.sleep(POLL)
        return []
    ray.wait(tasks, timeout=POLL, fetch_local=False)
    return ray.wait(tasks, num_returns=len(tasks), timeout=0, fetch_local=False)[0]


def succeeded(task: Any, failures: int, most: int) -> bool:
    """Whether a task ended without an error; one that did not is a dead worker, whose trial is run again."""
    try:
        fault = ray.get(task)
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[-1 if isinstance(error, ray.exceptions.RayTaskError) else 0]  # below its traceback; above a log
        log.warning("A worker was lost, its trial is run again: %s", reason)
        if failures >= most:
            raise TuningError(f"{failures + 1} workers were lost and no trial finished: {reason}") from None
        return False
    if fault:
        reason, trace = fault
        log.error("%s", trace)
        raise TuningError(f"a trial was ended by {reason}")
    return True
