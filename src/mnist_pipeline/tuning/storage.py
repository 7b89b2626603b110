"""The database that holds a study: SQLite for one process, PostgreSQL for workers on several machines."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import BasePruner
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from mnist_pipeline.console import PipelineError
from mnist_pipeline.tuning.trials import RETRIES

HEARTBEAT = 20  # seconds between a trial's heartbeats in a server's database; after three missed ones it is failed


class TuningError(PipelineError):
    """A study that cannot run or has no result; the message says why."""


def is_local(url: str) -> bool:
    """Whether a storage's URL names a file, which one process at a time may write to."""
    return url.startswith("sqlite")


@contextmanager
def opened_storage(url: str, heartbeat: int = HEARTBEAT) -> Iterator[RDBStorage]:
    """Connect to a database; at the end its connections are closed, whatever happens.

    Raises TuningError where the database does not serve, now or later, in one line without the password.
    """
    try:
        database = connect(url, heartbeat)
    except (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError) as error:
        raise TuningError(explain(url, error)) from None
    try:
        yield database
    except (SQLAlchemyError, StorageInternalError) as error:
        raise TuningError(explain(url, error)) from None
    finally:
        with suppress(SQLAlchemyError):  # a connection that is broken already
            database.remove_session()
        database.engine.dispose()


def connect(url: str, heartbeat: int = HEARTBEAT) -> RDBStorage:
    """Optuna's storage for a URL; on a server, a trial whose heartbeat stops is run again."""
    if is_local(url):
        # Without a pool every connection is closed after its use: a study leaves none open, whoever reads it later.
        return RDBStorage(url, engine_kwargs={"poolclass": NullPool, "connect_args": {"timeout": 60}})
    address = make_url(url)
    if url.startswith("postgres"):
        address = address.set(drivername="postgresql+psycopg")
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        return RDBStorage(
            address.render_as_string(hide_password=False),
            engine_kwargs={"pool_pre_ping": True, "pool_size": 1},  # a server has some 100 connections for all
            heartbeat_interval=heartbeat,
            grace_period=3 * heartbeat,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(RETRIES),
        )


def explain(url: str, error: Exception) -> str:
    """Why the study's database does not serve, in one line without the password, and what to do."""
    credentials, _, address = url.rpartition("@")
    password = credentials.partition("://")[2].partition(":")[2]
    reason = str(error.__cause__ or error).strip().splitlines()[0]
    reason = reason.replace(password, "***") if password else reason
    message = f"the study's database {address} does not serve: {reason}"
    if isinstance(error, ImportError):
        return f"{message} (pip install '.[distributed]' installs PostgreSQL's client)"
    return f"{message}; set another tune.storage, or move a damaged file away" if is_local(url) else message


def make_study(name: str, database: RDBStorage, pruner: BasePruner) -> optuna.Study:
    """The study of that name in a database; created where it is new."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # Progress prints a line for each trial instead
    return optuna.create_study(
        study_name=name, storage=database, pruner=pruner, direction="maximize", load_if_exists=True
    )
