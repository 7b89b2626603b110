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
from helpers.small_study import DEFAULTS, SPACE, make_objective, study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from mnist_pipeline import settings
from mnist_pipeline.data.catalogue import DATASETS
from mnist_pipeline.data.dataset import DataError
from mnist_pipeline.training.hyperparameters import Hyperparameters, resolve
from mnist_pipeline.training.loop import Diverged
from mnist_pipeline.training.step import make_optimizer
from mnist_pipeline.tuning import plots
from mnist_pipeline.tuning.choice import Choice, choose_trial, find_candidates, find_default_trial
from mnist_pipeline.tuning.objective import Objective
from mnist_pipeline.tuning.progress import Progress
from mnist_pipeline.tuning.results import count_states, summarise, write_results
from mnist_pipeline.tuning.search_space import suggest
from mnist_pipeline.tuning.storage import TuningError, open_storage, open_study
from mnist_pipeline.tuning.study import complete, make_pruner, run_here, tune
from mnist_pipeline.tuning.trials import (
    RETRAINS,
    RETRIES,
    error_of,
    is_finished,
    make_sampler,
    rank,
    retry_interrupted,
)


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/db.sqlite3"


def run(storage: str, objective: Callable[[optuna.Trial], float], trials: int, seconds: float = 1000.0) -> optuna.Study:
    """A study of an objective that costs nothing."""
    result = open_study("cheap", storage, make_pruner("none"))
    with Progress(result, trials, seconds) as progress:
        run_here(result, objective, progress, 0)
    return result


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


# A real study, killed and resumed.


def trials(out: Path, kind: str = "") -> list[FrozenTrial]:
    """The short trials of the study in a folder, or its retrainings (kind "-retrained")."""
    database = open_storage(f"sqlite:///{out}/db.sqlite3", 1)
    name = min(optuna.get_all_study_names(database), key=len)
    return optuna.load_study(study_name=name + kind, storage=database).trials


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
    assert [trial.state.name for trial in after] == ["COMPLETE", "FAIL", *["COMPLETE"] * 3]
    assert after[0].params == DEFAULTS
    assert after[1].params == after[2].params == {"optimizer": "adam", "batch_size": 16, "lr": 1e-3}
    points = [tuple(trial.params.items()) for trial in only_complete(after)]
    assert len(set(points)) == len(points) == 4
    again = trials(out, "-retrained")
    assert [trial.params for trial in again] == [after[trial.user_attrs[RETRAINS]].params for trial in again]
    assert [trial.params == DEFAULTS for trial in again] == [True, False]


def only_complete(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The complete ones of some trials."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


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
    assert found["retrained"] == 2
    assert found["best_value"] == whole.best_value
    assert whole.trials[found["chosen_trial"]].params == best
    assert "Number of finished trials:  4" in said.out
    assert found["reason"] in said.out
    assert f"  Value:  {found['chosen_value']}" in said.out
    rows = list(csv.DictReader((tmp_path / "results/trials.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["complete"] * 6
    assert [row["retrains"] != "" for row in rows] == [False] * 4 + [True] * 2
    for trial in trials(tmp_path, "-retrained"):  # its mistakes are those that its accuracy counts
        assert trial.value == pytest.approx(1 - len(trial.user_attrs["mistakes"]) / 60, abs=1e-6)


@pytest.mark.slow
def test_a_finished_study_runs_nothing_and_one_more_trial_runs_one(
    killed: tuple[Path, list[FrozenTrial]], mnist: Path
) -> None:
    out, _ = killed
    assert len(study(mnist, out).trials) == 5
    assert len(trials(out, "-retrained")) == 2
    longer = study(mnist, out, trials=5)
    assert len(only_complete(longer.trials)) == 5
    best = next(trial.number for trial in rank(longer) if trial.params != DEFAULTS)
    assert {0, best} <= {trial.user_attrs[RETRAINS] for trial in trials(out, "-retrained")}


def test_a_changed_objective_is_a_new_study(mnist: Path) -> None:
    objective = make_objective(mnist)
    dataset = objective.dataset
    wider = FloatDistribution(1e-4, 1e-1, log=True)
    changed = [
        replace(objective, dataset=replace(dataset, checksums={"train": "another"})),
        replace(objective, dataset=replace(dataset, validation=dataset.train)),
        replace(objective, space={**SPACE, "lr": wider}),
        replace(objective, fixed=Hyperparameters(weight_decay=0.1)),
        replace(objective, images_per_trial=49),
        replace(objective, retraining_fraction=0.5),
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
    choice = choose(result, nothing(), count=0)
    write_results(result, nothing(), choice, tmp_path)
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert rows[2]["error"] == "Diverged: the loss became nan in trial 2"
    assert "Number of failed trials:  3" in summarise(result, nothing(), choice)


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
        (misuse, TypeError, RETRIES),
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
        result = open_study("cheap", storage, make_pruner("none"))
        retry_interrupted(result)
        result.enqueue_trial({"x": 0.25}, skip_if_exists=True)
        result.enqueue_trial({"x": 0.75}, skip_if_exists=True)
        return run(storage, objective, 4)

    for attempt in range(attempts):
        with pytest.raises(error):
            resume()
        after = open_study("cheap", storage, make_pruner("none"))
        assert states(after) == ["COMPLETE"] + ["FAIL"] * (attempt + 1)
    broken = False
    result = resume()
    complete = [trial for trial in result.trials if trial.state == TrialState.COMPLETE]
    assert [trial.params["x"] for trial in complete[:2]] == [0.25, 0.75]
    assert len(complete) == 4
    assert count_states(trial for trial in result.trials if is_finished(trial))["failed"] == 0
    whole = open_study("whole", storage, make_pruner("none"))
    for value in (0.25, 0.75):
        whole.enqueue_trial({"x": value})
    with Progress(whole, 4, 1000.0) as progress:
        run_here(whole, objective, progress, 0)
    assert [trial.params for trial in complete] == [trial.params for trial in whole.trials]


DEFAULT = {"x": 0.25}


def nothing() -> optuna.Study:
    """A study without trials."""
    return optuna.create_study(direction="maximize")


def choose(result: optuna.Study, again: optuna.Study, count: int = 2) -> Choice | None:
    default = find_default_trial(result, DEFAULT)
    return choose_trial(find_candidates(result, default, count), default, rank(again))


def short_trials(number: int) -> optuna.Study:
    """A study of the default values and others."""
    result = nothing()
    result.enqueue_trial(DEFAULT)
    result.optimize(lambda trial: 0.5 + trial.suggest_float("x", 0, 1) / 10, n_trials=number)
    return result


def retrain(result: optuna.Study, *mistakes: set[int] | None, images: int = 1000) -> optuna.Study:
    """The retrainings of its trials, each of them wrong on some of the images, or failed."""
    again = nothing()
    for number, wrong in enumerate(mistakes):
        again.enqueue_trial(result.trials[number].params, user_attrs={RETRAINS: number})
        trial = again.ask({"x": FloatDistribution(0, 1)})
        if wrong is None:
            again.tell(trial, state=TrialState.FAIL)
        else:
            trial.set_user_attr("mistakes", sorted(wrong))
            again.tell(trial, 1 - len(wrong) / images)
    return again


@pytest.mark.parametrize(
    ("mistakes", "chosen", "says"),
    [
        ([set(range(50)), set(range(60))], 0, "No trial beats the default values (95.00%)"),
        ([set(range(50)), set(range(40))], 1, "on 10 images, wrong where they are right on 0"),
        ([set(range(50)), set(range(49))], 0, "trial 1 is not clearly better"),  # 1 image to 0 is one standard error
        ([set(range(50)), set(range(25, 72))], 0, "on 25 images, wrong where they are right on 22"),
        ([set(range(50)), set(range(25, 60)), set(range(45))], 1, "on 25 images, wrong where they are right on 10"),
        ([None, set(range(60))], 1, "The default values failed: trial 1 is the best of the others"),
    ],
)
def test_the_default_values_are_taken_unless_a_retraining_is_clearly_better_on_the_same_images(
    mistakes: list[set[int] | None], chosen: int, says: str, tmp_path: Path
) -> None:
    result = short_trials(len(mistakes))
    again = retrain(result, *mistakes)
    choice = choose(result, again)
    assert choice is not None
    assert says in choice.reason
    write_results(result, again, choice, tmp_path)
    assert yaml.safe_load((tmp_path / "best_params.yaml").read_text()) == result.trials[chosen].params
    found = json.loads((tmp_path / "study.json").read_text())
    assert (found["chosen_trial"], found["reason"]) == (chosen, choice.reason)
    assert choice.reason in summarise(result, again, choice)


def test_the_default_values_and_the_best_others_are_trained_again() -> None:
    result = nothing()
    for value in (0.25, 0.75, 0.75, 0.5):
        result.enqueue_trial({"x": value})
    result.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=4)

    def numbers(default: dict[str, float], count: int) -> list[int]:
        return [trial.number for trial in find_candidates(result, find_default_trial(result, default), count)]

    assert numbers(DEFAULT, 9) == [0, 1, 3]  # 2 has the values of 1
    assert numbers(DEFAULT, 1) == [0, 1]
    assert numbers(DEFAULT, 0) == [0]
    assert numbers({"x": 0.1}, 1) == [1]  # the default values failed
    assert numbers({"x": 0.1}, 0) == [1]


def test_default_values_that_the_search_space_does_not_have_are_sampled(mnist: Path) -> None:
    objective = make_objective(mnist)
    assert complete({}, objective) == DEFAULTS
    assert complete({"optimizer": "adam"}, objective) == DEFAULTS | {"optimizer": "adam"}
    narrow = replace(objective, space={**SPACE, "lr": FloatDistribution(0.01, 0.1)})
    assert complete({}, narrow) == {"optimizer": "sgd", "batch_size": 16}
    decay = replace(objective, space={"weight_decay": FloatDistribution(0, 1)})
    assert complete({"optimizer": "adam"}, decay) == {"weight_decay": 0.05}


def test_where_the_time_is_too_short_nothing_is_trained_again_and_it_is_said(
    mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = study(mnist, tmp_path, seconds=1e-3)
    assert len(result.trials) == 2  # the default values and the initial trial
    assert (
        "The default values are taken: to train them and the best 1 again, with 96 images each"
        in capsys.readouterr().out
    )
    assert yaml.safe_load((tmp_path / "results/best_params.yaml").read_text()) == DEFAULTS


def test_a_study_without_a_complete_trial_says_why(storage: str, tmp_path: Path) -> None:
    result = run(storage, fails_at(0, 1), 2)
    with pytest.raises(TuningError, match="none of 2 trials was completed; the last error: Diverged"):
        write_results(result, nothing(), choose(result, nothing()), tmp_path)
    assert not list(tmp_path.glob("*.yaml"))


def test_an_interrupted_trial_is_begun_again(storage: str) -> None:
    def interrupts(trial: optuna.Trial) -> float:
        trial.suggest_float("x", 0, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(storage, interrupts, 3)
    result = open_study("cheap", storage, make_pruner("none"))
    for _ in range(2):  # the second call finds nothing left to do
        retry_interrupted(result)
    assert states(result) == ["FAIL", "WAITING"]
    run(storage, fails_at(), 3)
    assert states(result) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert result.trials[1].params == result.trials[0].params


def test_a_trial_that_kills_its_process_each_time_counts_as_failed(storage: str) -> None:
    result = open_study("cheap", storage, make_pruner("none"))
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
    result = open_study("cheap", storage, make_pruner("none"))
    progress = Progress(result, trials=9, seconds=0.0, initial=3)
    with progress:
        run_here(result, lambda trial: trial.suggest_float("x", 0, 1), progress, 0)
    assert states(result) == ["COMPLETE"] * 3


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_a_trial_that_falls_behind_is_pruned(storage: str, pruner: str) -> None:
    result = open_study("curves", storage, make_pruner(pruner))

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
    assert list(result.trials[-1].intermediate_values) == [1]


# The search space.


@pytest.mark.parametrize(
    ("distribution", "value"),
    [
        (IntDistribution(0, 10, step=5), 4),
        (IntDistribution(0, 10), 4.5),
        (FloatDistribution(0.0, 10.0, step=2.5), 4.0),
        (FloatDistribution(0.0, 10.0), 11.0),
        (CategoricalDistribution([16, 32]), 48),
    ],
)
def test_an_initial_value_that_the_search_space_does_not_have_is_refused(
    mnist: Path, tmp_path: Path, distribution: BaseDistribution, value: float
) -> None:
    """Optuna would silently replace it."""
    objective = make_objective(mnist, space={"rotation": distribution})
    with pytest.raises(TuningError, match=rf"tune\.initial_trials: rotation = {value} is none of the values of "):
        tune(
            objective,
            [{"rotation": value}],
            trials=1,
            retrained_trials=1,
            seconds=1.0,
            storage=f"sqlite:///{tmp_path}/db.sqlite3",
            workers=1,
            folder=tmp_path,
        )


def test_numbers_written_as_strings_are_numbers_in_optuna(storage: str, tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-3 as a string."""
    params = yaml.safe_load((REFERENCE / "params.yaml").read_text())
    params["tune"]["search_space"] = yaml.safe_load("""
        lr: {type: categorical, choices: [1e-3, 1e-4]}
        batch_size: {type: categorical, choices: [64]}
        warmup: {type: float, low: 1e-1, high: 5e-1, step: 1e-1}
    """)
    params["tune"]["initial_trials"] = yaml.safe_load(
        "[{lr: 1e-4, batch_size: 64, warmup: 2e-1}, {lr: 1e-3, warmup: 3e-1}]"
    )
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    tune = settings.load(tmp_path / "params.yaml").tune
    found = []

    def objective(trial: optuna.Trial) -> float:
        values = suggest(trial, tune.distributions)
        hp = replace(Hyperparameters(), **values)
        found.append((hp.lr, hp.batch_size, hp.warmup))
        return hp.lr_at(0.5) + hp.steps(640)  # arithmetic, as training does it

    result = open_study("cheap", storage, make_pruner("none"))
    for point in tune.initial_trials:
        result.enqueue_trial(point)
    run(storage, objective, 4)
    assert found[:2] == [(1e-4, 64, 0.2), (1e-3, 64, 0.3)]
    assert {(type(lr), type(batch), type(warmup)) for lr, batch, warmup in found} == {(float, int, float)}
    assert states(result) == ["COMPLETE"] * 4


def test_a_trial_decays_its_weights_as_its_optimizer_needs() -> None:
    """The values that a study keeps fixed leave weight decay open: its trials differ in their optimizer."""
    fixed, _ = resolve({}, {}, DATASETS["MNIST"].hyperparameters)
    decays: dict[Any, float] = {"adam": 0.05, "sgd": 0.001, "rmsprop": 0.001}
    for optimizer, decay in decays.items():
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


# Where the study lives.


def test_several_workers_on_a_file_are_refused_with_the_line_that_mends_it(mnist: Path, tmp_path: Path) -> None:
    with pytest.raises(TuningError, match=r"tune\.workers = 2.*export MNIST_PIPELINE_STORAGE=postgresql://"):
        study(mnist, tmp_path, workers=2)


@pytest.mark.parametrize("password", ["s3cret", "s3:cr@t"])
def test_a_database_that_does_not_serve_is_named_without_its_password(password: str) -> None:
    url = f"postgresql://someone:{password}@127.0.0.1:1/studies"
    with pytest.raises(TuningError, match=r"127\.0\.0\.1:1/studies does not serve") as error:
        open_study("any", url, make_pruner("none"))
    assert "cr" not in str(error.value).replace("mnist", "")
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(TuningError, match=r"there\.sqlite3 does not serve"):
        open_study("any", f"sqlite:///{os.sep}not{os.sep}there.sqlite3", make_pruner("none"))


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
        open_study("cheap", storage, make_pruner("none"))
    assert f"{storage} has the tables of another version of Optuna: {advice.format(url=shlex.quote(storage))}" in str(
        error.value
    )
    assert "\n" not in str(error.value)
    assert error.value.__suppress_context__


def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "db.sqlite3").write_bytes(b"no database " * 1000)
    with pytest.raises(TuningError, match=r"does not serve: .*; move the file away") as error:
        open_study("any", f"sqlite:///{tmp_path}/db.sqlite3", make_pruner("none"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(TuningError, match="is lost with the process; name a file"):
        open_study("any", url, make_pruner("none"))


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
        trial.set_user_attr("mistakes", [])
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
