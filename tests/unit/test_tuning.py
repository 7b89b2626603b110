import csv
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from helpers import ROOT
from helpers.small_study import DEFAULTS, SPACE, make_objective, study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from mnist_pipeline.training.hyperparameters import Hyperparameters
from mnist_pipeline.training.loop import Diverged
from mnist_pipeline.tuning import study as tuning
from mnist_pipeline.tuning.choice import choose_trial, find_candidates, find_default_trial
from mnist_pipeline.tuning.objective import Objective
from mnist_pipeline.tuning.results import write_results
from mnist_pipeline.tuning.storage import TuningError, connect, make_study, opened_storage
from mnist_pipeline.tuning.study import PRUNERS, list_first
from mnist_pipeline.tuning.trials import RETRAINS, RETRIES, Progress, error_of, list_finished, rank, retry_interrupted


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/db.sqlite3"


def open_study(storage: str, pruner: str = "none") -> optuna.Study:
    return make_study("cheap", connect(storage), PRUNERS[pruner])


def run(
    storage: str, objective: Callable[[optuna.Trial], float], trials: int, *, pruner: str = "none", **budget: Any
) -> optuna.Study:
    """A study of an objective that costs nothing, run or resumed."""
    result = open_study(storage, pruner)
    tuning.run(result, objective, Progress(result, trials, **{"seconds": 1000.0} | budget), 0, storage)
    return result


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


# A real study, killed and resumed.


def trials(out: Path, kind: str = "") -> list[FrozenTrial]:
    """The short trials of the study in a folder, or its retrainings (kind "-retrained")."""
    database = connect(f"sqlite:///{out}/db.sqlite3")
    name = min(optuna.get_all_study_names(database), key=len)
    return optuna.load_study(study_name=name + kind, storage=database).trials


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

    while process.poll() is None and not in_the_second_trial():
        time.sleep(0.01)
    assert process.poll() is None, "the study ended before it could be killed"
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
        replace(objective, seed=1),
    ]
    names = {each.name for each in [objective, *changed]}
    assert len(names) == 1 + len(changed)
    assert replace(objective).name == objective.name


# Trials that fail, and budgets.


def diverge() -> None:
    raise Diverged("the loss became nan")


def run_out_of_memory() -> None:
    torch.empty(2**60, dtype=torch.uint8)  # what PyTorch really raises on a CPU


@pytest.mark.parametrize("fail", [diverge, run_out_of_memory])
def test_values_that_do_not_work_never_end_a_study(storage: str, fail: Callable[[], None], tmp_path: Path) -> None:
    def objective(trial: optuna.Trial) -> float:
        if trial.number < 5:
            fail()
        return trial.suggest_float("x", 0, 1)

    assert states(run(storage, objective, 4)) == ["FAIL"] * 4
    result = run(storage, objective, 6)
    assert states(result) == ["FAIL"] * 5 + ["COMPLETE"]
    write_results(result, nothing(), result.trials[5], "It is the only one.", tmp_path)
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert rows[2]["error"] == error_of(result.trials[2])
    assert json.loads((tmp_path / "study.json").read_text())["failed"] == 5


@pytest.mark.slow
def test_any_other_error_ends_the_study_at_once_and_the_next_run_repeats_the_trial(
    storage: str, tmp_path: Path
) -> None:
    broken = True

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", 0, 1)
        if broken and value != 0.25:  # 0.25 is the value given first
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
        return value

    def resume(storage: str) -> list[FrozenTrial]:
        result = open_study(storage)
        for value in (0.25, 0.75):
            result.enqueue_trial({"x": value}, skip_if_exists=True)
        return run(storage, objective, 4).trials

    for attempt in range(RETRIES):
        with pytest.raises(RuntimeError):
            resume(storage)
        ended = [trial.state.name for trial in open_study(storage).trials if trial.state != TrialState.WAITING]
        assert ended == ["COMPLETE"] + ["FAIL"] * (attempt + 1)
    broken = False
    complete = only_complete(resume(storage))
    assert [trial.params["x"] for trial in complete[:2]] == [0.25, 0.75]
    assert not [trial for trial in list_finished(open_study(storage)) if trial.state == TrialState.FAIL]
    uninterrupted = resume(f"sqlite:///{tmp_path}/other.sqlite3")
    assert [trial.params for trial in complete] == [trial.params for trial in uninterrupted]


DEFAULT = {"x": 0.25}


def nothing() -> optuna.Study:
    """A study without trials."""
    return optuna.create_study(direction="maximize")


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
        ([set(range(50)), set(range(49))], 0, "trial 1 is no better"),  # 1 image to 0 is one standard error
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
    trial, reason = choose_trial(result, find_default_trial(result, DEFAULT), again)
    assert says in reason
    write_results(result, again, trial, reason, tmp_path)
    assert yaml.safe_load((tmp_path / "best_params.yaml").read_text()) == result.trials[chosen].params
    found = json.loads((tmp_path / "study.json").read_text())
    assert (found["chosen_trial"], found["reason"]) == (chosen, reason)


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
    assert list_first(objective, [{"optimizer": "adam"}]) == [DEFAULTS, DEFAULTS | {"optimizer": "adam"}]
    narrow = replace(objective, space={**SPACE, "lr": FloatDistribution(0.01, 0.1)})
    assert list_first(narrow, []) == [{"optimizer": "sgd", "batch_size": 16}]
    decay = replace(objective, space={**SPACE, "weight_decay": FloatDistribution(0, 1)})
    assert [values["weight_decay"] for values in list_first(decay, [{"optimizer": "adam"}])] == [0.001, 0.05]


def test_where_the_time_is_too_short_nothing_is_trained_again_and_it_is_said(
    mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = study(mnist, tmp_path, seconds=1e-3)
    assert len(result.trials) == 2  # the default values and the initial trial
    assert "The default values are taken: to compare them with the best other trials takes" in capsys.readouterr().out
    assert yaml.safe_load((tmp_path / "results/best_params.yaml").read_text()) == DEFAULTS


def test_a_study_without_a_complete_trial_says_why(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Objective, "__call__", lambda self, trial: diverge())
    with pytest.raises(TuningError, match="none of 2 trials was completed; the last error: Diverged"):
        study(mnist, tmp_path, trials=2)
    assert not (tmp_path / "results").exists()


def test_an_interrupted_trial_is_begun_again(storage: str) -> None:
    def interrupts(trial: optuna.Trial) -> float:
        trial.suggest_float("x", 0, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(storage, interrupts, 3)
    result = open_study(storage)
    for _ in range(2):  # the second call finds nothing left to do
        retry_interrupted(result)
    assert states(result) == ["FAIL", "WAITING"]
    run(storage, lambda trial: trial.suggest_float("x", 0, 1), 3)
    assert states(result) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert result.trials[1].params == result.trials[0].params


def test_a_trial_that_kills_its_process_each_time_counts_as_failed(storage: str) -> None:
    result = open_study(storage)
    for _ in range(RETRIES + 1):
        result.ask({"x": FloatDistribution(0, 1)})  # and no more is heard of it
        retry_interrupted(result)
    assert states(result) == ["FAIL"] * (RETRIES + 1)
    assert list_finished(result) == result.trials[-1:]
    assert "its process ended 4 times" in str(error_of(result.trials[-1]))


def test_after_its_seconds_no_trial_begins_but_one_is_completed(storage: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.report(0.5, 1)
        if trial.number < 2:
            raise optuna.TrialPruned
        return 0.5

    assert states(run(storage, objective, 9, seconds=0.0)) == ["PRUNED", "PRUNED", "COMPLETE"]


def test_the_initial_trials_are_run_however_slow_the_machine_is(storage: str) -> None:
    result = run(storage, lambda trial: trial.suggest_float("x", 0, 1), 9, seconds=0.0, initial=3)
    assert states(result) == ["COMPLETE"] * 3


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_a_trial_that_falls_behind_is_pruned(storage: str, pruner: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        top = 0.9 if trial.number < 6 else 0.2
        for step in range(1, 7):
            trial.report(top * step / 6 + trial.number / 1000, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return top

    result = run(storage, objective, 7, pruner=pruner)
    assert states(result) == ["COMPLETE"] * 6 + ["PRUNED"]
    assert list(result.trials[-1].intermediate_values) == [1]


# The search space.


@pytest.mark.parametrize(
    ("distribution", "value"),
    [
        (IntDistribution(0, 10, step=5), 4),
        (FloatDistribution(0.0, 10.0), 11.0),
        (CategoricalDistribution([16, 32]), 48),
    ],
)
def test_an_initial_value_that_the_search_space_does_not_have_is_refused(
    mnist: Path, distribution: BaseDistribution, value: float
) -> None:
    """Optuna would silently replace it."""
    objective = make_objective(mnist, space={"rotation": distribution})
    with pytest.raises(TuningError, match=rf"tune\.initial_trials: rotation = {value} is none of the values of "):
        list_first(objective, [{"rotation": value}])


# Where the study lives.


def test_several_workers_on_a_file_are_refused_with_the_line_that_mends_it(mnist: Path, tmp_path: Path) -> None:
    with pytest.raises(TuningError, match=r"tune\.workers = 2.*export MNIST_PIPELINE_STORAGE=postgresql://"):
        study(mnist, tmp_path, workers=2)


@pytest.mark.parametrize("password", ["s3cret", "s3:cr@t"])
def test_a_database_that_does_not_serve_is_named_without_its_password(password: str) -> None:
    url = f"postgresql://someone:{password}@127.0.0.1:1/studies"
    with pytest.raises(TuningError, match=r"127\.0\.0\.1:1/studies does not serve") as error, opened_storage(url):
        pass
    assert "cr" not in str(error.value).replace("mnist", "")
    assert error.value.__suppress_context__


def make_no_database(file: Path) -> None:
    file.write_bytes(b"no database " * 1000)


def make_study_of_another_optuna(file: Path) -> None:
    open_study(f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'v3.0.0.d'")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_no_database, "file is not a database"),
        (make_study_of_another_optuna, "optuna storage upgrade"),
    ],
)
def test_a_file_that_does_not_serve_is_told_in_one_line(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    file = tmp_path / "db.sqlite3"
    make(file)
    with pytest.raises(TuningError, match=reason) as error, opened_storage(f"sqlite:///{file}"):
        pass
    assert f"{file} does not serve: " in str(error.value)
    assert "set another tune.storage" in str(error.value)
    assert "\n" not in str(error.value)
