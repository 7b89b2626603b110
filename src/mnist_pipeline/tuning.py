"""The Optuna study: which values of the search space learn best from some thousand training images.

A study in SQLite runs in this process; one in a server's database runs on Ray (distributed.py). Either way a
trial that was cut short is begun again, and a study ends with exactly the trials asked for.
"""

import errno
import hashlib
import itertools
import json
import logging
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
import yaml
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, PercentilePruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import BaseTrial, FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool
from tqdm import tqdm

from mnist_pipeline import compute, recipe, study_pictures, training
from mnist_pipeline.data import Dataset, Examples
from mnist_pipeline.errors import PipelineError
from mnist_pipeline.files import write_csv, write_json, write_text
from mnist_pipeline.network import DigitNetwork
from mnist_pipeline.training import Hyperparameters

log = logging.getLogger(__name__)
Objective = Callable[[optuna.Trial], float]

RANDOM = 5  # trials that draw at random before TPE has something to learn from
UNPRUNED = 4  # complete trials that the pruner wants before it compares
RETRIES = 3  # times that a trial whose process died is begun again
HEARTBEAT = 20  # seconds between a trial's signs of life in a server's database; without three of them it is lost


class TuningError(PipelineError):
    """A study that cannot run or has no answer; the message says why."""


class FailedTrial(PipelineError):
    """A trial whose values do not work, which the study goes on without; see `is_fault_of_values`."""


def tune(
    dataset: Dataset,
    space: Mapping[str, Mapping[str, Any]],
    first: Sequence[Mapping[str, Any]],
    fixed: Hyperparameters,
    *,
    trials: int,
    seconds: float,
    images_per_trial: int,
    reports: int,
    report_images: int,
    pruner: str,
    patience: int,
    seed: int,
    storage: str,
    workers: int,
    folder: Path,
) -> optuna.Study:
    """Run a study, or go on with it where the storage has it already, and write down what it found.

    The same arguments on the same machine give the same best values, interrupted or not, unless `seconds` cut
    the study short or several workers share it.

    A trial that diverges or lacks memory has failed, and counts as finished. Any other error in a trial (of the
    database, the disk, the data, or a bug) ends the study and is raised; the next run repeats that trial.

    Args:
        dataset: trials learn from its training images and are measured on its validation images.
        space: for each hyperparameter its `type` (categorical, int, float) with `choices`, or `low`, `high`,
            `step` and `log`; and `when`, other hyperparameters' values without which it is not asked.
        first: values to try before the sampler's own.
        fixed: the values of what is not in the space.
        trials: finished trials that the study ends with, those of earlier runs included.
        seconds: after so many no further trial begins; but one at least is completed.
        images_per_trial: training images that a trial learns from.
        reports: times a trial is measured, and may be pruned.
        report_images: validation images of each measurement; all of them where there are fewer.
        pruner: median, percentile (prunes the worst quarter), halving, or none.
        patience: reports that every trial is granted.
        seed: of the sampler, and of each trial's network and images.
        storage: SQLAlchemy's URL of the study's database.
        workers: trials under way at a time; above 1 only in a server's database.
        folder: gets best_params.yaml, trials.csv, study.json and the pictures.

    Returns:
        The study. Its connections to the database are closed; reading it opens new ones.

    Raises:
        TuningError: the storage does not serve or does not suit `workers`, or no trial was completed.
    """
    if workers > 1 and is_local(storage):
        raise TuningError(
            f"tune.workers = {workers}, but {storage} is a file, which one worker can write to. Set tune.workers to 1, "
            "or name a PostgreSQL database: export MNIST_PIPELINE_STORAGE=postgresql://user:password@host/database"
        )
    log_adaptation(dataset, report_images)
    question = Question(dataset, space, fixed, images_per_trial, reports, report_images, pruner, patience, seed)
    with opened_study(question.name, storage, make_pruner(pruner, patience)) as study, readable_storage_errors(storage):
        if is_local(storage):
            retry_interrupted(study)
        progress = Progress(study, trials, seconds)
        if progress.more():
            for values in first:
                study.enqueue_trial(dict(values), skip_if_exists=True)
        with progress:
            if is_local(storage):
                run_here(study, question, progress, seed)
            else:
                from mnist_pipeline import distributed  # wants Ray, an extra

                distributed.run(study, question, progress, seed, storage, workers)
        write_results(study, folder)
        print(statistics(study))
    if len(progress.seen) < trials:
        log.info("Stopped after %g s with %d of %d trials.", seconds, len(progress.seen), trials)
    return study


@dataclass(frozen=True)
class Question:
    """What a study asks, and, called with a trial, how the trial answers: `tune` explains the attributes."""

    dataset: Dataset
    space: Mapping[str, Mapping[str, Any]]
    fixed: Hyperparameters
    images_per_trial: int
    reports: int
    report_images: int
    pruner: str
    patience: int
    seed: int

    @property
    def name(self) -> str:
        """The study's name: the dataset's, and a digest of all that makes two trials comparable."""
        content = {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "dataset": self.dataset.checksums,
            "validation": hashlib.sha256(self.dataset.validation.images.numpy().tobytes()).hexdigest(),
            "fixed": asdict(self.fixed),
            "code": training.code(),
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return f"{self.dataset.name}-{digest[:10]}"

    def __call__(self, trial: optuna.Trial) -> float:
        """Train with a trial's values.

        Returns:
            Accuracy on the validation images, 0..1.

        Raises:
            optuna.TrialPruned: the trial fell behind others.
            training.Diverged: the loss became NaN or infinite.
        """
        train, validation = self.dataset.train, self.dataset.validation
        epochs = self.images_per_trial / max(len(train.labels), recipe.SHORTEST_EPOCH)
        values = suggest(trial, self.space) | {"epochs": epochs}
        hyperparameters = recipe.adapt_to_size(with_values(self.fixed, values), len(train.labels))
        torch.manual_seed(self.seed)
        digits = DigitNetwork(len(self.dataset.class_names), self.dataset.mean, self.dataset.std)

        ordinal = itertools.count(1)

        def on_report(report: training.Report) -> None:
            trial.report(round(report.validation_accuracy, 6), number := next(ordinal))
            if number < self.reports and trial.should_prune():
                raise optuna.TrialPruned

        history = training.fit(
            digits.to(compute.best_device()),
            train,
            Examples(validation.images[: self.report_images], validation.labels[: self.report_images]),
            hyperparameters,
            seed=self.seed,
            reports=self.reports,
            on_report=on_report,
        )
        return round(history[-1].validation_accuracy, 6)  # it was a float32


def log_adaptation(dataset: Dataset, report_images: int) -> None:
    """Say what the trials on few images cannot do as they are told."""
    images, validation = len(dataset.train.labels), len(dataset.validation.labels)
    largest = recipe.adapt_to_size(Hyperparameters(batch_size=images), images).batch_size
    if images < recipe.SHORTEST_EPOCH:
        log.info("Of %d training images a trial's batch is %d at most, whatever batch_size says.", images, largest)
    if report_images > validation:
        log.info(
            "tune.report_images = %d is more than the %d validation images: all are used.", report_images, validation
        )


def suggest(trial: BaseTrial, space: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A trial's values for those parameters of the space whose `when` holds."""
    values: dict[str, Any] = {}
    for name, parameter in space.items():
        if any(values.get(other) not in allowed for other, allowed in (parameter.get("when") or {}).items()):
            continue
        if parameter["type"] == "categorical":
            values[name] = trial.suggest_categorical(name, parameter["choices"])
        else:
            draw, step = (trial.suggest_int, 1) if parameter["type"] == "int" else (trial.suggest_float, None)
            scale = {"step": parameter.get("step") or step, "log": parameter.get("log", False)}
            values[name] = draw(name, parameter["low"], parameter["high"], **scale)
    return values


def with_values(fixed: Hyperparameters, values: Mapping[str, Any]) -> Hyperparameters:
    """Hyperparameters with some of them, or of their augmentation's, replaced by name."""
    flat = asdict(fixed)
    return recipe.hyperparameters(flat | flat.pop("augmentation") | values)


def make_pruner(name: str, patience: int) -> BasePruner:
    """The pruner by its name in params.yaml; reports are numbered from 1."""
    if name == "median":
        return MedianPruner(UNPRUNED, n_warmup_steps=patience)
    if name == "percentile":
        return PercentilePruner(75.0, UNPRUNED, n_warmup_steps=patience)
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=max(1, patience), reduction_factor=2)
    if name == "none":
        return NopPruner()
    raise TuningError(f"pruner = {name!r}, but it is one of median, percentile, halving, none")


def make_sampler(seed: int, ordinal: int) -> TPESampler:
    """A sampler for one trial: seeded by its place in the study, so that a resumed study goes on as if never cut."""
    mixed = np.random.SeedSequence((seed, ordinal)).generate_state(1)[0]
    return TPESampler(n_startup_trials=RANDOM, seed=int(mixed))


def is_local(storage: str) -> bool:
    """Whether a storage's URL names a file, which one process at a time may write to."""
    return storage.startswith("sqlite")


def open_study(name: str, storage: str, pruner: BasePruner, heartbeat: int = HEARTBEAT) -> optuna.Study:
    """The study of that name, created where it is new, with connections that live as long as the process.

    Raises:
        TuningError: the database does not serve; a password in its URL is left out of the message.
    """
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
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # `Progress` says what Optuna would, in one line a trial
    with readable_storage_errors(storage):
        return optuna.create_study(
            study_name=name, storage=database, pruner=pruner, direction="maximize", load_if_exists=True
        )


def without_password(storage: str) -> tuple[str, str]:
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
    address, password = without_password(storage)
    reason = str(error.__cause__ or error).strip().splitlines()[0]
    reason = reason.replace(password, "***") if password else reason
    message = f"the study's database {address} does not serve: {reason}"
    if isinstance(error, ImportError) and storage.startswith("postgres"):
        return f"{message}; pip install '.[distributed]' installs PostgreSQL's client"
    if is_local(storage) and ("not a database" in reason or "malformed" in reason):
        return f"{message}; move the file away, or set another tune.storage"
    return message


def open_storage(storage: str, heartbeat: int) -> RDBStorage:
    """Connect to the database; on a server, trials give signs of life, and those that stop are begun again.

    Raises:
        TuningError: the database does not serve, or has the tables of another version of Optuna.
    """
    address, password = without_password(storage)
    try:
        return connect(storage, heartbeat)
    except (SQLAlchemyError, StorageInternalError, ImportError) as error:
        raise TuningError(storage_message(storage, error)) from None
    except RuntimeError as error:  # Optuna's, and its words are many
        url = '"$MNIST_PIPELINE_STORAGE"' if password else storage
        upgrade = "storage upgrade" in str(error)  # else a newer Optuna made it
        what = f"run `optuna storage upgrade --storage {url}`" if upgrade else "install the version that made it"
        raise TuningError(
            f"the study's database {address} has the tables of another version of Optuna: {what}, "
            f"or {'move the file away, or ' if is_local(storage) else ''}set another tune.storage"
        ) from None


def connect(storage: str, heartbeat: int) -> RDBStorage:
    """Optuna's storage for a URL."""
    if is_local(storage):
        if make_url(storage).database in (None, "", ":memory:"):
            raise TuningError(f"tune.storage = {storage} keeps nothing; name a file, such as sqlite:///db.sqlite3")
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


def retry_interrupted(study: optuna.Study, tasks: Sequence[str] | None = None) -> None:
    """Fail the trials that a killed process left running, and queue each one that was cut short once more.

    Args:
        study: where `tasks` are not given, one of this process alone: what its storage calls running is not.
        tasks: the Ray tasks, all dead, whose trials are meant.
    """
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        if tasks is None or trial.user_attrs.get("task") in tasks:
            study.tell(trial.number, state=TrialState.FAIL)
    again = {number for trial in study.trials for number in (*retries(trial), trial.user_attrs.get("repeats"))}
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        retry = RetryHeartbeatStaleTrialCallback(RETRIES)
    for trial in study.get_trials(states=[TrialState.FAIL]):
        if is_finished(trial) or trial.number in again:
            continue
        if "fault" in trial.user_attrs:  # its process lives, so this is none of the RETRIES
            values = trial.system_attrs.get("fixed_params", {}) | trial.params
            study.enqueue_trial(values, user_attrs={"repeats": trial.number})
        else:
            retry(study, trial)


def retries(trial: FrozenTrial) -> list[int]:
    """The numbers of the trials that this one takes the place of."""
    return list(trial.system_attrs.get("retry_history", []))


def error_of(trial: FrozenTrial) -> str | None:
    """Why a trial failed, beginning with the error's kind; None where it did not, or where it has to be repeated."""
    if trial.state != TrialState.FAIL or "fault" in trial.user_attrs:
        return None
    if len(retries(trial)) >= RETRIES:
        return f"Died: its process ended {RETRIES + 1} times without a word; too little memory?"
    error = trial.user_attrs.get("error")
    return str(error) if error else None


def is_finished(trial: FrozenTrial) -> bool:
    """Whether a trial came to an end of its own, be it a failure: one that was cut short did not."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or error_of(trial) is not None


def run_here(study: optuna.Study, objective: Objective, progress: "Progress", seed: int) -> None:
    """Run trials, one at a time, in this process."""
    while progress.more():
        study.sampler = make_sampler(seed, len(progress.seen))
        run_one(study, objective)
        progress.update()


def run_one(study: optuna.Study, objective: Objective) -> None:
    """Run one trial. One whose values do not work keeps its error; any other error is raised, and noted as a fault."""

    def recorded(trial: optuna.Trial) -> float:
        try:
            return float(objective(trial))
        except optuna.TrialPruned:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"[:500]
            if is_fault_of_values(error):
                trial.set_user_attr("error", reason)
                raise FailedTrial(reason) from error
            with suppress(SQLAlchemyError, StorageInternalError):  # where the database is at fault, it cannot note it
                trial.set_user_attr("fault", reason)
                values = as_words(trial.params)
                log.error("Trial %d (%s) was ended by an error; the next run repeats it.", trial.number, values)
            raise

    study.optimize(recorded, n_trials=1, catch=(FailedTrial,))


def is_fault_of_values(error: Exception) -> bool:
    """Whether an error says that a trial's values do not work: they diverge, or need more memory than there is."""
    if isinstance(error, training.Diverged | MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    words = ("can't allocate memory", "not enough memory", "out of memory")  # the CPU's allocators, CUDA's libraries
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


class Progress:
    """A study's finished trials against its budget, on one bar with a line for each trial."""

    def __init__(self, study: optuna.Study, trials: int, seconds: float) -> None:
        self.study, self.trials = study, trials
        self.deadline = time.monotonic() + seconds
        self.seen = {trial.number for trial in self.finished()}
        if self.seen:
            log.info("Going on with study %s: %d of %d trials are there.", study.study_name, len(self.seen), trials)

    def __enter__(self) -> "Progress":
        self.bar = tqdm(total=self.trials, initial=len(self.seen), desc="tune", unit="trial", disable=None)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def finished(self) -> list[FrozenTrial]:
        """The finished trials, in the order of their numbers."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if is_finished(trial)]

    def more(self, under_way: int = 0) -> bool:
        """Whether another trial may begin beside those under way."""
        if len(self.seen) + under_way >= self.trials:
            return False
        return time.monotonic() < self.deadline or (not under_way and best_of(self.study) is None)

    def update(self) -> None:
        """Take note of trials that finished since the last update."""
        best = best_of(self.study)
        for trial in self.finished():
            if trial.number not in self.seen:
                self.seen.add(trial.number)
                tqdm.write(describe(trial), file=sys.stderr)
                self.bar.set_postfix(best=f"{best.value:.2%}" if best else "-", refresh=False)
                self.bar.update()


def describe(trial: FrozenTrial) -> str:
    """A finished trial in a line."""
    reports = trial.intermediate_values
    reached = f"{reports[max(reports)]:.2%}" if reports else "-"
    outcome = {
        TrialState.COMPLETE: f"{trial.value or 0:.2%}",
        TrialState.PRUNED: f"pruned at {reached} after {len(reports)} reports",
        TrialState.FAIL: f"failed ({error_of(trial)})",
    }[trial.state]
    seconds = trial.duration.total_seconds() if trial.duration else 0
    return f"trial {trial.number}: {outcome}, {seconds:.0f} s: {as_words(trial.params)}"


def as_words(values: Mapping[str, Any]) -> str:
    """Hyperparameters in a line."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def best_of(study: optuna.Study) -> FrozenTrial | None:
    """The complete trial with the highest value, the earliest of equals; None where no trial is complete."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return min(complete, key=lambda trial: (-(trial.value or 0), trial.number), default=None)


def write_results(study: optuna.Study, folder: Path) -> None:
    """Write best_params.yaml, trials.csv, study.json and the pictures, each of them whole or not at all.

    Raises:
        TuningError: no trial was completed.
    """
    finished = [trial for trial in study.trials if is_finished(trial)]
    best = best_of(study)
    if best is None:
        errors = [error for trial in finished if (error := error_of(trial))]
        raise TuningError(f"none of {len(finished)} trials was completed; the last error: {(errors or ['none'])[-1]}")
    write_csv(folder / "trials.csv", as_rows(finished))
    write_json(
        folder / "study.json",
        {"study": study.study_name, **counts(finished), "best_trial": best.number, "best_value": best.value},
    )
    study_pictures.draw(folder, study, [trial for trial in finished if trial.state != TrialState.FAIL], best)
    heading = f"# Trial {best.number} of study {study.study_name}: {best.value:.2%} of the validation images right.\n"
    write_text(folder / "best_params.yaml", heading + yaml.safe_dump(best.params))


def as_rows(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """A table of trials: number, state, value, seconds, reports, hyperparameters, error."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    return [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "value": trial.value if trial.state == TrialState.COMPLETE else None,
            "last_report": list(trial.intermediate_values.values())[-1] if trial.intermediate_values else None,
            "reports": len(trial.intermediate_values),
            "seconds": round(trial.duration.total_seconds(), 2) if trial.duration else None,
            **{name: trial.params.get(name) for name in names},
            "error": error_of(trial),
        }
        for trial in trials
    ]


def counts(finished: Iterable[FrozenTrial]) -> dict[str, int]:
    """How many trials finished, and how."""
    states = Counter(trial.state for trial in finished)
    kinds = {"pruned": TrialState.PRUNED, "complete": TrialState.COMPLETE, "failed": TrialState.FAIL}
    return {"finished": states.total(), **{name: states[state] for name, state in kinds.items()}}


def statistics(study: optuna.Study) -> str:
    """What a study came to, in words."""
    best = best_of(study)
    lines = ["Study statistics:"]
    for name, count in counts(trial for trial in study.trials if is_finished(trial)).items():
        if count or name != "failed":
            lines.append(f"  Number of {name} trials:  {count}")
    if best is not None:
        lines += ["Best trial:", f"  Value:  {best.value}", "  Params:"]
        lines += [f"    {name}: {value}" for name, value in best.params.items()]
    return "\n".join(lines)
