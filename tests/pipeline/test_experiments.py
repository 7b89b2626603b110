"""A grid of experiments over night: queued, killed in the middle, queued again, and shown as a table."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from helpers import ROOT
from helpers.small_pipeline import ENVIRONMENT, run, start_project

pytestmark = pytest.mark.slow
TABLE = (sys.executable, "-m", "mnist_pipeline.evaluation.experiments")
REQUEUE = (sys.executable, str(ROOT / "scripts/requeue.py"))
SOURCE = {"PYTHONPATH": str(ROOT / "src")}
PIPELINE = """
stages:
  train:
    cmd: python stage.py
    deps: [stage.py, "${data.source}"]
    params: [data, train]
    metrics: [results/evaluate/metrics.json: {cache: false}]
    outs: [model]
"""
PARAMS = "data:\n  dataset: A\n  source: pictures\n  seed: 0\ntune:\n  seed: 0\ntrain:\n  lr: 0.5\n  seed: 0\n"
STAGE = """
import json, pathlib, time, yaml
params = yaml.safe_load(open("params.yaml"))
dataset, seed, begun = params["data"]["dataset"], params["train"]["seed"], pathlib.Path("{folder}/.dvc/tmp/begun")
if (dataset, seed) == ("A", 2) and not begun.exists():
    begun.touch()
    time.sleep(600)
accuracy = {{"A": 0.9, "B": 0.7}}[dataset] + seed / 100
metrics = {{"validation_accuracy": accuracy, "accuracy": accuracy - 0.01, "training_seconds": 2.5}}
pathlib.Path("model").write_text(str(params))
pathlib.Path("results/evaluate").mkdir(parents=True, exist_ok=True)
pathlib.Path("results/evaluate/metrics.json").write_text(json.dumps(metrics))
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A repository with a pipeline of one quick stage that has run; at the end no process of its queue is left."""
    files = {"dvc.yaml": PIPELINE, "params.yaml": PARAMS, "stage.py": STAGE.format(folder=tmp_path)}
    start_project(tmp_path, files | {"pictures/README.md": "", ".gitignore": "/results/experiments.*\n"})
    yield tmp_path
    kill(tmp_path)


def kill(folder: Path) -> None:
    """Kill every process that works in a folder, as a power failure would."""
    for process in processes_in(folder):
        os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not processes_in(folder))


def processes_in(folder: Path) -> list[psutil.Process]:
    """Processes whose working directory is in a folder."""
    found = psutil.process_iter(["cwd"])  # of a zombie it is None
    return [process for process in found if str(process.info["cwd"]).startswith(str(folder))]


def wait_until(happened: Callable[[], bool]) -> None:
    for _ in range(6000):
        if happened():
            return
        time.sleep(0.1)
    raise TimeoutError


def test_a_grid_that_is_killed_in_the_middle_is_completed_and_compared(project: Path) -> None:
    (project / "mine").mkdir()  # git does not track it
    grid = ("-S", "data.dataset=A,B", "-S", "train.seed=0,1,2")
    run(project, "dvc", "exp", "run", "--queue", *grid)
    # The worker would keep a pipe open.
    start = ["dvc", "queue", "start"]
    subprocess.run(start, cwd=project, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    wait_until((project / ".dvc/tmp/begun").exists)
    kill(project)
    lines = run(project, *TABLE, environment=SOURCE).splitlines()
    assert lines[1].split()[:2] == ["2", "90.50"]
    states = [line.partition(": ")[2] for line in lines[2:]]
    assert states[:4] == [*["queued"] * 3, "running, its process is gone: make requeue"]

    run(project, "dvc", "exp", "run", "--queue", "--name", "own", "-S", "data.source=mine")
    assert run(project, *REQUEUE, environment=SOURCE).count("is queued again.") == 1
    wait_until(lambda: re.search("own .* Failed", run(project, "dvc", "queue", "status")) is not None)
    lines = run(project, *TABLE, environment=SOURCE).splitlines()
    assert [line.split()[:5] for line in lines[1:3]] == [
        ["A", "3", "91.00", "1.00", "90.00"],
        ["B", "3", "71.00", "1.00", "70.00"],
    ]
    assert lines[3].startswith("own: failed, data.source=mine is not in git: git add it")
    assert (project / "results/experiments.csv").exists()
    assert (project / "results/experiments.png").exists()
    assert run(project, "git", "status", "--porcelain", "--untracked-files=no") == ""
