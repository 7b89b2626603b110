"""The grid of experiments, on a pipeline of one quick stage."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
PIPELINE = """
stages:
  train:
    cmd: python stage.py
    params: [train]
    deps: [stage.py]
    metrics: [results/evaluate/metrics.json: {cache: false}]
    outs: [model]
"""
STAGE = """
import json, pathlib, yaml
lr = yaml.safe_load(open("params.yaml"))["train"]["lr"]
pathlib.Path("model").write_text(str(lr))
pathlib.Path("results/evaluate").mkdir(parents=True, exist_ok=True)
pathlib.Path("results/evaluate/metrics.json").write_text(json.dumps({"accuracy": 1 - lr, "loss": lr}))
"""


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", command], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a pipeline that has run."""
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "stage.py").write_text(STAGE)
    (folder / "params.yaml").write_text("train:\n  lr: 0.5\n  epochs: 2\n")
    done = run(
        folder,
        "git init -q && git config user.email someone@example.org && git config user.name Someone && dvc init -q"
        " && dvc config core.autostage true && dvc repro -q && git add --all && git commit -qm First",
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_runs_the_grid_shows_it_and_leaves_the_workspace_as_it_was(repository: Path) -> None:
    done = run(repository, f"'{ROOT}/scripts/experiments.sh' train.lr 0.25 0.125")
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    rows = {name: row for row in table for name in ("lr-0.25", "lr-0.125") if name in row}
    assert "0.75" in rows["lr-0.25"]
    assert "0.875" in rows["lr-0.125"]
    assert "loss" not in table[0]
    assert run(repository, "git status --porcelain").stdout == ""
    assert (repository / "model").read_text() == "0.5"


def test_uncommitted_changes_are_not_lost(repository: Path) -> None:
    (repository / "params.yaml").write_text("train:\n  lr: 0.5\n  epochs: 3\n")
    done = run(repository, f"'{ROOT}/scripts/experiments.sh' train.lr 0.25")
    assert done.returncode == 1
    assert "Commit your changes first" in done.stderr
    assert "epochs: 3" in (repository / "params.yaml").read_text()
