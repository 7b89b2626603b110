import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import yaml
from helpers import ROOT
from helpers.small_study import FIRST, SPACE, dataset, study
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial, FrozenTrial, TrialState
from PIL import Image

from mnist_pipeline import settings, tuning
from mnist_pipeline.training import Diverged, Hyperparameters


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/db.sqlite3"


def run(storage: str, objective: tuning.Objective, trials: int, seconds: float = 1000.0) -> optuna.Study:
    """A study of an objective that costs nothing."""
    result = tuning.open_study("cheap", storage, tuning.make_pruner("none", 0))
    with tuning.Progress(result, trials, seconds) as progress:
        tuning.run_here(result, objective, progress, 0)
    return result


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


# A real study, killed and resumed.


def trials(out: Path) -> list[FrozenTrial]:
    (name,) = optuna.get_all_study_names(f"sqlite:///{out}/db.sqlite3")
    return optuna.load_study(study_name=name, storage=f"sqlite:///{out}/db.sqlite3").trials


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
    assert sum(trial.params == FIRST[0] for trial in after) == 1


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
    assert found["best_value"] == max(trial.value for trial in whole.trials)
    assert whole.trials[found["best_trial"]].params == best
    assert "Number of finished trials:  4" in said.out
    assert f"  Value:  {found['best_value']}" in said.out
    rows = list(csv.DictReader((tmp_path / "results/trials.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["complete"] * 4
    assert all((row["momentum"] != "") == (row["optimizer"] == "sgd") for row in rows)
    for picture in ("history", "importances", "parallel_coordinates", "learning_curves"):
        with Image.open(tmp_path / f"results/{picture}.png") as image:
            assert len(image.convert("L").getcolors()) > 50  # type: ignore[arg-type]


def test_a_finished_study_runs_nothing_and_one_more_trial_runs_one(
    killed: tuple[Path, list[FrozenTrial]], mnist: Path
) -> None:
    out, _ = killed
    assert len(study(mnist, out).trials) == 5
    assert len(study(mnist, out, trials=5).trials) == 6


def test_a_changed_question_is_a_new_study(mnist: Path) -> None:
    here = dataset(mnist)
    asked = tuning.Question(here, SPACE, Hyperparameters(), 96, 3, 60, "median", 1, 0)
    changed = [
        replace(asked, dataset=replace(here, checksums={"train": "another"})),
        replace(asked, dataset=replace(here, validation=here.train)),
        replace(asked, space={**SPACE, "lr": {**SPACE["lr"], "high": 0.1}}),
        replace(asked, fixed=Hyperparameters(weight_decay=0.1)),
        replace(asked, images_per_trial=97),
        replace(asked, reports=4),
        replace(asked, pruner="halving"),
        replace(asked, seed=1),
    ]
    names = {question.name for question in [asked, *changed]}
    assert len(names) == 1 + len(changed)
    assert replace(asked).name == asked.name


# Trials that fail, and budgets.


def fails_at(*numbers: int) -> tuning.Objective:
    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", 0, 1)
        if trial.number in numbers:
            raise Diverged(f"the loss became nan in trial {trial.number}")
        return value

    return objective


def test_a_failed_trial_is_recorded_with_its_error_and_the_study_goes_on(storage: str, tmp_path: Path) -> None:
    result = run(storage, fails_at(0, 2, 3), 5)
    assert states(result) == ["FAIL", "COMPLETE", "FAIL", "FAIL", "COMPLETE"]
    assert tuning.error_of(result.trials[3]) == "Diverged: the loss became nan in trial 3"
    tuning.write_results(result, tmp_path)
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert rows[2]["error"] == "Diverged: the loss became nan in trial 2"
    assert "Number of failed trials:  3" in tuning.statistics(result)


def test_three_alike_in_a_row_stop_the_study_with_their_error(storage: str) -> None:
    with pytest.raises(tuning.TuningError, match=r"3 trials in a row failed alike.*Diverged: the loss became nan in t"):
        run(storage, fails_at(1, 2, 3), 9)


def test_three_of_different_kinds_do_not(storage: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        if trial.number == 1:
            raise MemoryError("unable to allocate")
        return fails_at(0, 2)(trial)

    assert states(run(storage, objective, 4)) == ["FAIL", "FAIL", "FAIL", "COMPLETE"]


def test_a_study_without_a_complete_trial_says_why(storage: str, tmp_path: Path) -> None:
    result = run(storage, fails_at(0, 1), 2)
    with pytest.raises(tuning.TuningError, match="none of 2 trials was completed; the last error: Diverged"):
        tuning.write_results(result, tmp_path)
    assert not list(tmp_path.glob("*.yaml"))


def test_an_interrupted_trial_is_begun_again(storage: str) -> None:
    def interrupts(trial: optuna.Trial) -> float:
        trial.suggest_float("x", 0, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(storage, interrupts, 3)
    result = tuning.open_study("cheap", storage, tuning.make_pruner("none", 0))
    for _ in range(2):  # the second call finds nothing left to do
        tuning.retry_interrupted(result)
    assert states(result) == ["FAIL", "WAITING"]
    run(storage, fails_at(), 3)
    assert states(result) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert result.trials[1].params == result.trials[0].params


def test_a_trial_that_kills_its_process_each_time_counts_as_failed(storage: str) -> None:
    result = tuning.open_study("cheap", storage, tuning.make_pruner("none", 0))
    for _ in range(tuning.RETRIES + 1):
        result.ask({"x": FloatDistribution(0, 1)})  # and no more is heard of it
        tuning.retry_interrupted(result)
    assert states(result) == ["FAIL"] * (tuning.RETRIES + 1)
    assert [tuning.is_finished(trial) for trial in result.trials] == [False, False, False, True]
    assert "its process ended 4 times" in str(tuning.error_of(result.trials[-1]))


def test_after_its_seconds_no_trial_begins_but_one_is_completed(storage: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.report(0.5, 1)
        if trial.number < 2:
            raise optuna.TrialPruned
        return 0.5

    assert states(run(storage, objective, 9, seconds=0.0)) == ["PRUNED", "PRUNED", "COMPLETE"]


@pytest.mark.parametrize("pruner", ["median", "percentile", "halving"])
def test_a_trial_that_falls_behind_is_pruned_when_its_patience_is_over(storage: str, pruner: str) -> None:
    result = tuning.open_study("curves", storage, tuning.make_pruner(pruner, 2))

    def objective(trial: optuna.Trial) -> float:
        top = 0.9 if trial.number < 6 else 0.2
        for step in range(1, 7):
            trial.report(top * step / 6 + trial.number / 1000, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return top

    with tuning.Progress(result, 7, 1000.0) as progress:
        tuning.run_here(result, objective, progress, 0)
    assert states(result) == ["COMPLETE"] * 6 + ["PRUNED"]
    assert list(result.trials[-1].intermediate_values) == [1, 2]


# The search space.


def test_momentum_is_asked_with_sgd_alone() -> None:
    values = {"optimizer": "adam", "batch_size": 8, "lr": 1e-3, "momentum": 0.9}
    assert "momentum" not in tuning.suggest(FixedTrial(values), SPACE)
    assert tuning.suggest(FixedTrial(values | {"optimizer": "sgd"}), SPACE)["momentum"] == 0.9


def test_a_space_as_params_yaml_has_it_is_optunas() -> None:
    trial = optuna.create_study().ask()
    space = {
        "optimizer": settings.Categorical(type="categorical", choices=["adam"]),
        "batch_size": settings.IntRange(type="int", low=32, high=64, step=16),
        "rotation": settings.FloatRange(type="float", low=0.0, high=20.0, step=5.0),
        "lr": settings.FloatRange(type="float", low="1e-05", high=0.1, log=True),
    }
    tuning.suggest(trial, {name: parameter.model_dump() for name, parameter in space.items()})
    assert trial.distributions == {
        "optimizer": CategoricalDistribution(["adam"]),
        "batch_size": IntDistribution(32, 64, step=16),
        "rotation": FloatDistribution(0, 20, step=5),
        "lr": FloatDistribution(1e-5, 0.1, log=True),
    }


def test_values_reach_the_hyperparameters_and_their_augmentation() -> None:
    fixed = Hyperparameters(momentum=0.8)
    made = tuning.with_values(fixed, {"lr": 0.01, "rotation": 5.0})
    assert (made.lr, made.momentum, made.augmentation.rotation) == (0.01, 0.8, 5.0)


# Where the study lives.


def test_several_workers_on_a_file_are_refused_with_the_line_that_mends_it(mnist: Path, tmp_path: Path) -> None:
    with pytest.raises(tuning.TuningError, match=r"tune\.workers = 2.*export MNIST_PIPELINE_STORAGE=postgresql://"):
        study(mnist, tmp_path, workers=2)


@pytest.mark.parametrize("password", ["s3cret", "s3:cr@t"])
def test_a_database_that_does_not_serve_is_named_without_its_password(password: str) -> None:
    url = f"postgresql://someone:{password}@127.0.0.1:1/studies"
    with pytest.raises(tuning.TuningError, match=r"127\.0\.0\.1:1/studies does not serve") as error:
        tuning.open_study("any", url, tuning.make_pruner("none", 0))
    assert "cr" not in str(error.value).replace("mnist", "")
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(tuning.TuningError, match="unable to open database file"):
        tuning.open_study("any", f"sqlite:///{os.sep}not{os.sep}there.sqlite3", tuning.make_pruner("none", 0))
