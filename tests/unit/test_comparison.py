"""`make table`: groups over seeds, paired differences, their intervals, and what is said of unfinished experiments."""

import csv
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mnist_pipeline.evaluation.comparison import Experiment, compare, draw, tabulate
from mnist_pipeline.evaluation.experiments import (
    ExperimentsError,
    choose_baseline,
    is_running,
    read_experiment,
    read_experiments,
)
from mnist_pipeline.files import write_csv

COMMIT = {"data.dataset": "MNIST", "data.source": "pictures", "tune.seed": "0", "train.lr": "null", "train.seed": "0"}


def done(validation_accuracy: float, lr: str = "null", seed: int = 0, dataset: str = "MNIST") -> Experiment:
    settings = COMMIT | {"train.lr": lr, "train.seed": str(seed), "data.dataset": dataset}
    return Experiment(f"{dataset}-{lr}-{seed}", settings, {"validation_accuracy": validation_accuracy, "accuracy": 0.5})


GRID = [
    *(done(0.90 + seed / 100, seed=seed) for seed in range(3)),
    *(done(0.90 + seed / 100 + gain, "0.1", seed) for seed, gain in enumerate((0.01, 0.02, 0.03))),
    done(0.5, "0.2", 1),
    done(0.4, "0.2", 9),
    *(done(0.70, dataset="USPS", seed=seed) for seed in range(2)),
    done(0.75, "0.1", 1, "USPS"),
    done(0.60, "0.3", 7, "USPS"),
]


def test_seeds_are_averaged_and_differences_paired_by_seed_within_a_dataset() -> None:
    varied, rows = compare(GRID, COMMIT, COMMIT)
    assert varied == ["data.dataset", "train.lr"]
    assert [(row["data.dataset"], row["train.lr"], row["n"], row["pairs"], row["is_baseline"]) for row in rows] == [
        ("MNIST", "0.1", 3, 3, False),
        ("MNIST", "null", 3, 0, True),
        ("MNIST", "0.2", 2, 1, False),
        ("USPS", "0.1", 1, 1, False),
        ("USPS", "null", 2, 0, True),
        ("USPS", "0.3", 1, 0, False),
    ]
    best, baseline, few, other, _, apart = rows
    assert best["validation_accuracy"] == pytest.approx(0.93)
    assert baseline["validation_accuracy_sd"] == pytest.approx(0.01)
    # By hand: the differences 1, 2 and 3 points have the standard deviation 1; t = 4.3027 with 2 degrees of freedom.
    assert best["difference"] == pytest.approx(0.02)
    assert best["difference_low"] == pytest.approx(0.02 - 4.3027 * 0.01 / 3**0.5, abs=1e-6)
    assert best["difference_high"] == pytest.approx(0.02 + 4.3027 * 0.01 / 3**0.5, abs=1e-6)
    assert few["difference"] == pytest.approx(0.5 - 0.91)
    assert few["difference_low"] is None
    assert other["difference"] == pytest.approx(0.05)
    assert apart["difference"] is None


def test_a_named_baseline_is_compared_with_and_a_repeated_run_counts_once() -> None:
    _, rows = compare([*GRID, done(0.95, "0.1", 0)], COMMIT, GRID[3].settings)
    first, second = rows[:2]
    assert (first["train.lr"], first["is_baseline"], first["n"]) == ("0.1", True, 3)
    assert first["validation_accuracy"] == pytest.approx((0.95 + 0.93 + 0.95) / 3)
    assert second["difference"] == pytest.approx((-0.05 - 0.02 - 0.03) / 3)
    assert choose_baseline(GRID[0], GRID, "MNIST-0.1-2") == GRID[5].settings
    assert choose_baseline(GRID[0], GRID, "") == COMMIT
    with pytest.raises(ExperimentsError, match="is called other"):
        choose_baseline(GRID[0], GRID, "other")


def test_the_table_is_aligned_and_the_picture_and_the_csv_are_written(tmp_path: Path) -> None:
    varied, rows = compare(GRID, COMMIT, COMMIT)
    lines = tabulate(varied, rows).splitlines()
    assert lines[1].endswith("50.00           +2.00 (-0.48 to +4.48), 3 seeds")
    assert [line.split("50.00")[-1].strip() for line in lines[2:]] == [
        "baseline",
        "-41.00, one seed",
        "+5.00, one seed",
        "baseline",
        "no seed in common with the baseline",
    ]
    assert len({line.index(" 50.00 ") for line in lines[1:]}) == 1
    write_csv(tmp_path / "experiments.csv", rows)
    with (tmp_path / "experiments.csv").open() as file:
        assert [row["training_seconds"] for row in csv.DictReader(file)] == [""] * 6
    draw(tmp_path / "experiments.png", varied, rows)
    with Image.open(tmp_path / "experiments.png") as picture:
        assert picture.height > 200


def shown(source: str = "pictures") -> dict[str, Any]:
    """An experiment as `dvc exp show --json` describes it."""
    params = {"data": {"source": source}, "train": {"lr": None, "epochs": 4.0}}
    metrics = {"results/evaluate/metrics.json": {"data": {"validation_accuracy": 0.5}}}
    return {
        "name": "bold-name",
        "rev": "1234567890",
        "data": {"params": {"params.yaml": {"data": params}}, "metrics": metrics},
    }


@pytest.mark.parametrize(
    ("source", "text", "reason"),
    [
        ("pictures", "SettingsError: lr is high\nERROR: failed: stage, exited with 1\n", "SettingsError: lr is high"),
        ("mine", "ERROR: failed: [Errno 2] No such file: '/tmp/x/mine'\n", "data.source=mine is not in git"),
        ("/mine", "ERROR: failed: No such file: '/mine'\n", "failed: No such file: '/mine'"),
        ("pictures", "> python stage.py\n", "it was killed: make requeue"),
    ],
)
def test_a_failed_experiment_has_no_metrics_and_says_why(tmp_path: Path, source: str, text: str, reason: str) -> None:
    (tmp_path / "log").write_text(text)
    found = read_experiment(shown(source), {"state": "failed", "local": {"log": str(tmp_path / "log")}})
    assert (found.name, found.state, found.metrics) == ("bold-name", "failed", {})
    assert found.reason.startswith(reason)


def test_a_dead_process_is_not_taken_for_another_with_its_number() -> None:
    command = ["bash", "-c", "echo; read", "revision"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()  # before, it may not have its command line yet
        local = {"pid": process.pid, "task_id": "revision"}
        assert read_experiment(shown(), {"state": "running", "local": local}).reason == ""
        assert not is_running(process.pid, "queue-worker")
        process.communicate(b"\n")
    for reused in (process.pid, os.getpid()):
        found = read_experiment(shown(), {"state": "running", "local": local | {"pid": reused}})
        assert (found.state, found.reason, found.metrics) == ("running", "its process is gone: make requeue", {})


def test_queued_and_finished_experiments_are_told_apart() -> None:
    assert read_experiment(shown(), {"state": "queued", "local": None}).state == "queued"
    finished = read_experiment(shown(), {})
    assert (finished.state, finished.metrics) == ("", {"validation_accuracy": 0.5})
    assert finished.settings == {"data.source": "pictures", "train.lr": "null", "train.epochs": "4"}


def test_one_line_where_there_is_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExperimentsError, match="you are not inside of a DVC repository"):
        read_experiments()
