"""The database that holds a study: SQLite for one process, PostgreSQL for workers on several machines."""

import shlex
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


def is_local(storage: str) -> bool:
    """Whether a storage's URL names a file, which one process at a time may write to."""
    return storage.startswith("sqlite")


def open_study(name: str, storage: str, pruner: BasePruner, heartbeat: int = HEARTBEAT) -> optuna.Study:
    """The study of that name, created where it is new, with connections that live as long as the process."""
    return study_in(open_storage(storage, heartbeat), name, storage, pruner)


@contextmanager
def opened_study(name: str, storage: str, pruner: BasePruner, heartbeat: int = HEARTBEAT) -> Iterator[optuna.Study]:
    """The study that `open_study` gives; its connections are closed at the end, whatever happens."""
    database = open_storage(storage, heartbeat)
    try:
        yield study_in(database, name, storage, pruner)
    finally:
        with suppress(SQLAlchemyError):  # a connection that is broken already
            database.remove_session()
        database.engine.dispose()


def study_in(database: RDBStorage, name: str, storage: str, pruner: BasePruner) -> optuna.Study:
    """The study of that name in an open database, whose URL is `storage`; created where it is new."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # progress.py prints a line for each trial instead
    with readable_storage_errors(storage):
        return optuna.create_study(
            study_name=name, storage=database, pruner=pruner, direction="maximize", load_if_exists=True
        )


def split_password(storage: str) -> tuple[str, str]:
    """The address in a storage's URL, without user and password; and the password, empty where there is none."""
    credentials, _, address = storage.rpartition("@")
    return address, credentials.partition("://")[2].partition(":")[2]


@contextmanager
def readable_storage_errors(storage: str) -> Iterator[None]:
    """Turn errors of the study's database into TuningErrors of one line, without the password."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise TuningError(storage_message(storage, error)) from None


def storage_message(storage: str, error: Exception) -> str:
    """Why the study's database does not serve, in one line without the password, and what to do."""
    address, password = split_password(storage)
    reason = str(error.__cause__ or error).strip().splitlines()[0]
    reason = reason.replace(password, "***") if password else reason
    message = f"the study's database {address} does not serve: {reason}"
    if isinstance(error, ImportError) and storage.startswith("postgres"):
        return f"{message}; pip install '.[distributed]' installs PostgreSQL's client"
    if is_local(storage) and ("not a database" in reason or "malformed" in reason):
        return f"{message}; move the file away, or set another tune.storage"
    return message


def open_storage(storage: str, heartbeat: int) -> RDBStorage:
    """Connect to the database; a TuningError says why it does not serve."""
    address, password = split_password(storage)
    try:
        return connect(storage, heartbeat)
    except (SQLAlchemyError, StorageInternalError, ImportError) as error:
        raise TuningError(storage_message(storage, error)) from None
    except RuntimeError as error:  # Optuna's message is long
        url = '"$MNIST_PIPELINE_STORAGE"' if password else shlex.quote(storage)
        upgrade = "storage upgrade" in str(error)  # else a newer Optuna made it
        what = f"run `optuna storage upgrade --storage {url}`" if upgrade else "install the version that made it"
        raise TuningError(
            f"the study's database {address} has the tables of another version of Optuna: {what}, "
            f"or {'move the file away, or ' if is_local(storage) else ''}set another tune.storage"
        ) from None


def connect(storage: str, heartbeat: int) -> RDBStorage:
    """Optuna's storage for a URL; on a server, a trial whose heartbeat stops is run again."""
    if is_local(storage):
        if make_url(storage).database in (None, "", ":memory:"):
            raise TuningError(
                f"tune.storage = {storage} is lost with the process; name a file, such as sqlite:///db.sqlite3"
            )
        # Without a pool every connection is closed after its use: a study leaves none open, whoever reads it later.
        return RDBStorage(storage, engine_kwargs={"poolclass": NullPool, "connect_args": {"timeout": 60}})
    address = make_url(storage)
    if address.get_backend_name() in ("postgresql", "postgres"):
        address = address.set(drivername="postgresql+psycopg")
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        return RDBStorage(
            address.render_as_string(hide_password=False),
            engine_kwargs={"pool_pre_ping": True, "pool_size": 1},  # a server has some 100 connections for all
            heartbeat_interval=heartbeat,
            grace_period=3 * heartbeat,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(RETRIES),
        )
