import csv
import errno
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
import yaml
from helpers import REFERENCE, ROOT
from helpers.small_study import INITIAL_TRIALS, SPACE, make_objective, study
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from mnist_pipeline import settings
from mnist_pipeline.data.catalogue import DATASETS
from mnist_pipeline.data.dataset import DataError
from mnist_pipeline.training.hyperparameters import Hyperparameters, resolve
from mnist_pipeline.training.loop import Diverged
from mnist_pipeline.training.step import make_optimizer
from mnist_pipeline.tuning import plots
from mnist_pipeline.tuning.objective import Objective
from mnist_pipeline.tuning.progress import Progress
from mnist_pipeline.tuning.results import count_states, summarise, write_results
from mnist_pipeline.tuning.search_space import Parameter, suggest
from mnist_pipeline.tuning.storage import TuningError, open_storage, open_study
from mnist_pipeline.tuning.study import make_pruner, run_here
from mnist_pipeline.tuning.trials import RETRIES, choose_trial, error_of, is_finished, make_sampler, retry_interrupted


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/db.sqlite3"


def run(storage: str, objective: Callable[[optuna.Trial], float], trials: int, seconds: float = 1000.0) -> optuna.Study:
    """A study of an objective that costs nothing."""
    result = open_study("cheap", storage, make_pruner("none", 0))
    with Progress(result, trials, seconds) as progress:
        run_here(result, objective, progress, 0)
    return result


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


# A real study, killed and resumed.


def trials(out: Path) -> list[FrozenTrial]:
    database = open_storage(f"sqlite:///{out}/db.sqlite3", 1)
    (name,) = optuna.get_all_study_names(database)
    return optuna.load_study(study_name=name, storage=database).trials


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and not condition():
        time.sleep(0.01)
    assert process.poll() is None, "the study ended before it could be killed"


@pytest.fixture(scope="module")
def killed(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[FrozenTrial]]:
    """Where a study was killed in the middle of its second trial and then completed, and its trials when it was."""
    out = tmp_path_factory.mktemp("killed")
    process = subprocess.Popen([sys.executable, ROOT / "tests/helpers/small_study.py", mnist, out])

    def in_the_second_trial() -> bool:
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(out / "db.sqlite3")) as database:
            reports = "SELECT 1 FROM trial_intermediate_values JOIN trials USING (trial_id) WHERE number = 1"
            return database.execute(reports).fetchone() is not None
        return False

    wait_for(in_the_second_trial, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = trials(out)
    study(mnist, out)
    return out, before


@pytest.mark.slow
def test_a_killed_study_keeps_what_it_had_and_ends_with_exactly_the_trials_asked_for(
    killed: tuple[Path, list[FrozenTrial]],
) -> None:
    out, before = killed
    after = trials(out)
    assert [trial.state for trial in before] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert after[0] == before[0]
    assert [trial.state.name for trial in after] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert after[2].params == after[1].params  # the trial that was cut short, once more
    points = [tuple(trial.params.items()) for trial in after if trial.state == TrialState.COMPLETE]
    assert len(set(points)) == 4
    assert sum(trial.params == INITIAL_TRIALS[0] for trial in after) == 1


@pytest.mark.slow
def test_it_finds_what_an_uninterrupted_study_finds(
    killed: tuple[Path, list[FrozenTrial]], mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = killed
    whole = study(mnist, tmp_path)
    said = capsys.readouterr()
    best = yaml.safe_load((tmp_path / "results/best_params.yaml").read_text())
    assert best == yaml.safe_load((out / "results/best_params.yaml").read_text())
    found = json.loads((tmp_path / "results/study.json").read_text())
    assert found["study"] == whole.study_name
    assert found["study"].startswith("MNIST-")
    assert (found["finished"], found["complete"], found["pruned"], found["failed"]) == (4, 4, 0, 0)
    assert found["best_value"] == whole.best_value
    assert whole.trials[found["chosen_trial"]].params == best
    assert "Number of finished trials:  4" in said.out
    assert f"  Value:  {found['best_value']}" in said.out
    rows = list(csv.DictReader((tmp_path / "results/trials.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["complete"] * 4
    assert all((row["momentum"] != "") == (row["optimizer"] == "sgd") for row in rows)


@pytest.mark.slow
def test_a_finished_study_runs_nothing_and_one_more_trial_runs_one(
    killed: tuple[Path, list[FrozenTrial]], mnist: Path
) -> None:
    out, _ = killed
    assert len(study(mnist, out).trials) == 5
    assert len(study(mnist, out, trials=5).trials) == 6


def test_a_changed_objective_is_a_new_study(mnist: Path) -> None:
    objective = make_objective(mnist)
    dataset = objective.dataset
    wider = Parameter(FloatDistribution(1e-4, 1e-1, log=True))
    changed = [
        replace(objective, dataset=replace(dataset, checksums={"train": "another"})),
        replace(objective, dataset=replace(dataset, validation=dataset.train)),
        replace(objective, space={**SPACE, "lr": wider}),
        replace(objective, space={**SPACE, "momentum": Parameter(SPACE["momentum"].distribution)}),
        replace(objective, fixed=Hyperparameters(weight_decay=0.1)),
        replace(objective, images_per_trial=49),
        replace(objective, evaluations=4),
        replace(objective, pruner="halving"),
        replace(objective, seed=1),
    ]
    names = {each.name for each in [objective, *changed]}
    assert len(names) == 1 + len(changed)
    assert replace(objective).name == objective.name


# Trials that fail, and budgets.


def fails_at(*numbers: int) -> Callable[[optuna.Trial], float]:
    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", 0, 1)
        if trial.number in numbers:
            raise Diverged(f"the loss became nan in trial {trial.number}")
        return value

    return objective


def test_a_failed_trial_is_recorded_with_its_error_and_the_study_goes_on(storage: str, tmp_path: Path) -> None:
    result = run(storage, fails_at(0, 2, 3), 5)
    assert states(result) == ["FAIL", "COMPLETE", "FAIL", "FAIL", "COMPLETE"]
    assert error_of(result.trials[3]) == "Diverged: the loss became nan in trial 3"
    write_results(result, choose_trial(result, [], 100), tmp_path)
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert rows[2]["error"] == "Diverged: the loss became nan in trial 2"
    assert "Number of failed trials:  3" in summarise(result, result.trials[1])


def diverge() -> None:
    raise Diverged("the loss became nan")


def run_out_of_memory() -> None:
    torch.empty(2**60, dtype=torch.uint8)  # what PyTorch really raises on a CPU


def fail_as_numpy_does() -> None:
    np.empty(2**60, np.uint8)


def fail_as_cuda_does() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def fail_as_the_system_does() -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize(
    "fail", [diverge, run_out_of_memory, fail_as_numpy_does, fail_as_cuda_does, fail_as_the_system_does]
)
def test_values_that_do_not_work_never_end_a_study(storage: str, fail: Callable[[], None]) -> None:
    def objective(trial: optuna.Trial) -> float:
        if trial.number < 5:
            fail()
        return 0.5

    first = run(storage, objective, 4)
    assert states(first) == ["FAIL"] * 4
    assert states(run(storage, objective, 6)) == ["FAIL"] * 5 + ["COMPLETE"]
    assert error_of(first.trials[0])


def misuse() -> None:
    len(3)  # type: ignore[arg-type]


def fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def lack_data() -> None:
    raise DataError("data/ is empty")


def break_the_database() -> None:
    raise StorageInternalError("the connection is gone")


def miss_a_kernel() -> None:
    raise RuntimeError("CUDA error: no kernel image is available for execution on the device")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fail", "error", "attempts"),
    [
        (misuse, TypeError, RETRIES + 2),  # however often
        (fill_the_disk, OSError, 1),
        (lack_data, DataError, 1),
        (break_the_database, StorageInternalError, 1),
        (miss_a_kernel, RuntimeError, 1),
    ],
)
def test_any_other_error_ends_the_study_at_once_and_the_next_run_repeats_the_trial(
    storage: str, fail: Callable[[], None], error: type[Exception], attempts: int
) -> None:
    broken = True

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", 0, 1)
        if broken and value != 0.25:  # 0.25 is the value given first
            fail()
        return value

    def resume() -> optuna.Study:
        result = open_study("cheap", storage, make_pruner("none", 0))
        retry_interrupted(result)
        result.enqueue_trial({"x": 0.25}, skip_if_exists=True)
        result.enqueue_trial({"x": 0.75}, skip_if_exists=True)
        return run(storage, objective, 4)

    for attempt in range(attempts):
        with pytest.raises(error):
            resume()
        after = open_study("cheap", storage, make_pruner("none", 0))
        assert states(after) == ["COMPLETE"] + ["FAIL"] * (attempt + 1)
    broken = False
    result = resume()
    complete = [trial for trial in result.trials if trial.state == TrialState.COMPLETE]
    assert [trial.params["x"] for trial in complete[:2]] == [0.25, 0.75]
    assert len(complete) == 4
    assert count_states(trial for trial in result.trials if is_finished(trial))["failed"] == 0
    whole = open_study("whole", storage, make_pruner("none", 0))
    for value in (0.25, 0.75):
        whole.enqueue_trial({"x": value})
    with Progress(whole, 4, 1000.0) as progress:
        run_here(whole, objective, progress, 0)
    assert [trial.params for trial in complete] == [trial.params for trial in whole.trials]


def completed(accuracies: list[float], initial_trials: list[dict[str, float]]) -> optuna.Study:
    """A study whose trials had these accuracies, and of which the first ones had given values."""
    result = optuna.create_study(direction="maximize")
    for values in initial_trials:
        result.enqueue_trial(values)

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("x", 0, 1)
        return accuracies[trial.number]

    result.optimize(objective, n_trials=len(accuracies))
    return result


@pytest.mark.parametrize(
    ("accuracies", "images", "chosen"),
    [
        ([0.975, 0.970, 0.979], 2500, 0),  # 0.4 points, where the standard error of the difference is 0.42
        ([0.970, 0.975, 0.979], 2500, 1),
        ([0.975, 0.970, 0.979], 25_000, 2),  # of ten times the images it is 0.13
        ([0.300, 0.100, 0.600], 100, 2),
        ([1.000, 1.000, 1.000], 100, 0),
    ],
)
def test_the_initial_values_are_taken_unless_another_trial_is_clearly_better(
    accuracies: list[float], images: int, chosen: int, tmp_path: Path
) -> None:
    initial = [{"x": 0.25}, {"x": 0.75}]
    result = completed(accuracies, initial)
    trial = choose_trial(result, initial, images)
    write_results(result, trial, tmp_path)
    assert yaml.safe_load((tmp_path / "best_params.yaml").read_text()) == result.trials[chosen].params
    found = json.loads((tmp_path / "study.json").read_text())
    best = accuracies.index(max(accuracies))
    assert (found["best_trial"], found["chosen_trial"]) == (best, chosen)
    assert (found["best_value"], found["chosen_value"]) == (accuracies[best], accuracies[chosen])
    said = f"Trial {chosen} is taken, with {accuracies[chosen]}: x " in summarise(result, trial)
    assert said == (chosen != best)


def test_without_initial_trials_the_highest_accuracy_wins() -> None:
    result = completed([0.975, 0.970, 0.976], [{"x": 0.25}])
    found = choose_trial(result, [], 2500)
    assert found is not None
    assert found.number == 2


def test_a_study_without_a_complete_trial_says_why(storage: str, tmp_path: Path) -> None:
    result = run(storage, fails_at(0, 1), 2)
    with pytest.raises(TuningError, match="none of 2 trials was completed; the last error: Diverged"):
        write_results(result, choose_trial(result, [], 100), tmp_path)
    assert not list(tmp_path.glob("*.yaml"))


def test_an_interrupted_trial_is_begun_again(storage: str) -> None:
    def interrupts(trial: optuna.Trial) -> float:
        trial.suggest_float("x", 0, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(storage, interrupts, 3)
    result = open_study("cheap", storage, make_pruner("none", 0))
    for _ in range(2):  # the second call finds nothing left to do
        retry_interrupted(result)
    assert states(result) == ["FAIL", "WAITING"]
    run(storage, fails_at(), 3)
    assert states(result) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert result.trials[1].params == result.trials[0].params


def test_a_trial_that_kills_its_process_each_time_counts_as_failed(storage: str) -> None:
    result = open_study("cheap", storage, make_pruner("none", 0))
    for _ in range(RETRIES + 1):
        result.ask({"x": FloatDistribution(0, 1)})  # and no more is heard of it
        retry_interrupted(result)
    assert states(result) == ["FAIL"] * (RETRIES + 1)
    assert [is_finished(trial) for trial in result.trials] == [False, False, False, True]
    assert "its process ended 4 times" in str(error_of(result.trials[-1]))


def test_after_its_seconds_no_trial_begins_but_one_is_completed(storage: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.report(0.5, 1)
        if trial.number < 2:
            raise optuna.TrialPruned
        return 0.5

    assert states(run(storage, objective, 9, seconds=0.0)) == ["PRUNED", "PRUNED", "COMPLETE"]


def test_the_initial_trials_are_run_however_slow_the_machine_is(storage: str) -> None:
    result = open_study("cheap", storage, make_pruner("none", 0))
    progress = Progress(result, trials=9, seconds=0.0, initial=3)
    with progress:
        run_here(result, lambda trial: trial.suggest_float("x", 0, 1), progress, 0)
    assert states(result) == ["COMPLETE"] * 3


@pytest.mark.parametrize("pruner", ["median", "percentile", "halving"])
def test_a_trial_that_falls_behind_is_pruned_after_its_warmup_steps(storage: str, pruner: str) -> None:
    result = open_study("curves", storage, make_pruner(pruner, 2))

    def objective(trial: optuna.Trial) -> float:
        top = 0.9 if trial.number < 6 else 0.2
        for step in range(1, 7):
            trial.report(top * step / 6 + trial.number / 1000, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return top

    with Progress(result, 7, 1000.0) as progress:
        run_here(result, objective, progress, 0)
    assert states(result) == ["COMPLETE"] * 6 + ["PRUNED"]
    assert list(result.trials[-1].intermediate_values) == [1, 2]


# The search space.


def test_momentum_is_asked_with_sgd_alone() -> None:
    values = {"optimizer": "adam", "batch_size": 8, "lr": 1e-3, "momentum": 0.9}
    assert "momentum" not in suggest(FixedTrial(values), SPACE)
    assert suggest(FixedTrial(values | {"optimizer": "sgd"}), SPACE)["momentum"] == 0.9


def test_a_space_as_params_yaml_has_it_is_optunas() -> None:
    trial = optuna.create_study().ask()
    space: dict[str, settings.Parameter] = {
        "optimizer": settings.Categorical(type="categorical", choices=["adam"]),
        "batch_size": settings.IntRange(type="int", low=32, high=64, step=16),
        "rotation": settings.FloatRange(type="float", low=0.0, high=20.0, step=5.0),
        "lr": settings.FloatRange(type="float", low=1e-05, high=0.1, log=True),
    }
    suggest(trial, {name: Parameter(parameter.distribution) for name, parameter in space.items()})
    assert trial.distributions == {
        "optimizer": CategoricalDistribution(["adam"]),
        "batch_size": IntDistribution(32, 64, step=16),
        "rotation": FloatDistribution(0, 20, step=5),
        "lr": FloatDistribution(1e-5, 0.1, log=True),
    }


def test_numbers_written_as_strings_are_numbers_in_optuna(storage: str, tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-3 as a string."""
    params = yaml.safe_load((REFERENCE / "params.yaml").read_text())
    params["tune"]["search_space"] = yaml.safe_load("""
        lr: {type: categorical, choices: [1e-3, 1e-4]}
        batch_size: {type: categorical, choices: [64]}
        warmup: {type: float, low: 1e-1, high: 5e-1, step: 1e-1, when: {lr: [1e-4]}}
    """)
    params["tune"]["initial_trials"] = yaml.safe_load("[{lr: 1e-4, batch_size: 64, warmup: 2e-1}, {lr: 1e-3}]")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    tune = settings.load(tmp_path / "params.yaml").tune
    space = {name: Parameter(found.distribution, found.when) for name, found in tune.search_space.items()}
    found = []

    def objective(trial: optuna.Trial) -> float:
        values = suggest(trial, space)
        hp = replace(Hyperparameters(), **values)
        found.append((hp.lr, hp.batch_size, hp.warmup))
        return hp.lr_at(0.5) + hp.steps(640)  # arithmetic, as training does it

    result = open_study("cheap", storage, make_pruner("none", 0))
    for point in tune.initial_trials:
        result.enqueue_trial(point)
    run(storage, objective, 4)
    assert found[:2] == [(1e-4, 64, 0.2), (1e-3, 64, 0.25)]
    assert {(type(lr), type(batch), type(warmup)) for lr, batch, warmup in found} == {(float, int, float)}
    assert states(result) == ["COMPLETE"] * 4


def test_a_trial_decays_its_weights_as_its_optimizer_needs() -> None:
    """The values that a study keeps fixed leave weight decay open: its trials differ in their optimizer."""
    fixed, _ = resolve({}, {}, DATASETS["MNIST"].hyperparameters)
    for optimizer, decay in {"adam": 0.05, "sgd": 0.001, "rmsprop": 0.001}.items():
        made = replace(fixed, optimizer=optimizer)
        assert make_optimizer(torch.nn.Linear(1, 1), made).param_groups[0]["weight_decay"] == decay
    made = replace(fixed, optimizer="sgd", weight_decay=0.01)
    assert make_optimizer(torch.nn.Linear(1, 1), made).param_groups[0]["weight_decay"] == 0.01


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_a_sampler_takes_every_seed(seed: int) -> None:
    drawn = {}
    for ordinal in (0, 99_999):
        sampler = make_sampler(seed, ordinal)
        drawn[ordinal] = optuna.create_study(sampler=sampler).ask({"x": FloatDistribution(0, 1)}).params["x"]
    assert len(set(drawn.values())) == 2


def test_values_reach_the_hyperparameters_and_their_augmentation() -> None:
    fixed = Hyperparameters(momentum=0.8)
    made = replace(fixed, lr=0.01, rotation=5.0)
    assert (made.lr, made.momentum, made.augmentation.rotation) == (0.01, 0.8, 5.0)


# Where the study lives.


def test_several_workers_on_a_file_are_refused_with_the_line_that_mends_it(mnist: Path, tmp_path: Path) -> None:
    with pytest.raises(TuningError, match=r"tune\.workers = 2.*export MNIST_PIPELINE_STORAGE=postgresql://"):
        study(mnist, tmp_path, workers=2)


@pytest.mark.parametrize("password", ["s3cret", "s3:cr@t"])
def test_a_database_that_does_not_serve_is_named_without_its_password(password: str) -> None:
    url = f"postgresql://someone:{password}@127.0.0.1:1/studies"
    with pytest.raises(TuningError, match=r"127\.0\.0\.1:1/studies does not serve") as error:
        open_study("any", url, make_pruner("none", 0))
    assert "cr" not in str(error.value).replace("mnist", "")
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(TuningError, match=r"there\.sqlite3 does not serve"):
        open_study("any", f"sqlite:///{os.sep}not{os.sep}there.sqlite3", make_pruner("none", 0))


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        (
            "v3.0.0.d",
            "run `optuna storage upgrade --storage {url}`, or move the file away, or set another tune.storage",
        ),
        ("v99.0.0.a", "install the version that made it, or move the file away, or set another tune.storage"),
    ],
)
def test_a_database_of_another_version_of_optuna_is_told_in_one_line(tmp_path: Path, version: str, advice: str) -> None:
    (tmp_path / "My Studies").mkdir()
    storage = f"sqlite:///{tmp_path}/My Studies/db.sqlite3"
    run(storage, fails_at(), 1)
    with closing(sqlite3.connect(storage.removeprefix("sqlite:///"))) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))
    with pytest.raises(TuningError) as error:
        open_study("cheap", storage, make_pruner("none", 0))
    assert f"{storage} has the tables of another version of Optuna: {advice.format(url=shlex.quote(storage))}" in str(
        error.value
    )
    assert "\n" not in str(error.value)
    assert error.value.__suppress_context__


def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "db.sqlite3").write_bytes(b"no database " * 1000)
    with pytest.raises(TuningError, match=r"does not serve: .*; move the file away") as error:
        open_study("any", f"sqlite:///{tmp_path}/db.sqlite3", make_pruner("none", 0))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(TuningError, match="is lost with the process; name a file"):
        open_study("any", url, make_pruner("none", 0))


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Every connection that is opened during a test; kept here, so that only `close` closes one."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.dbapi2.connect

    def connect_and_keep(*arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3.dbapi2, "connect", connect_and_keep)
    return opened


def is_open(connection: sqlite3.Connection) -> bool:
    try:
        return connection.total_changes >= 0
    except sqlite3.ProgrammingError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("error", [None, TypeError, KeyboardInterrupt])
def test_a_study_leaves_no_connection_open(
    error: type[BaseException] | None,
    connections: list[sqlite3.Connection],
    mnist: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python 3.13 warns of each one that is left to the garbage collector."""

    def objective(self: Objective, trial: optuna.Trial) -> float:
        value = trial.suggest_float("lr", 0, 1)
        if error and trial.number == 1:
            raise error
        return value

    monkeypatch.setattr(Objective, "__call__", objective)
    monkeypatch.setattr(plots, "draw", lambda *_: None)
    with pytest.raises(error) if error else nullcontext():
        result = study(mnist, tmp_path)
        assert len(result.trials) == 4  # reading it afterwards leaves none open either
    assert connections
    assert not [each for each in connections if is_open(each)]
