"""`make undo` and what a person put into the folders of the pipeline's outputs, in a repository of one quick stage."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.small_pipeline import run, start_project

pytestmark = pytest.mark.slow
STAGE = """
mkdir -p saved_models results
cp params.yaml saved_models/20260101-000000.pth
echo '{"weights": "20260101-000000.pth"}' >saved_models/model_info.json
cp params.yaml results/history.csv
"""
PIPELINE = """
stages:
  train:
    cmd: bash stage.sh
    deps: [stage.sh]
    params: [train]
    outs: [saved_models, results/history.csv]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in a folder of a larger git repository, run once and committed."""
    files = {"stage.sh": STAGE, "dvc.yaml": PIPELINE, "params.yaml": "train: {lr: 0.1}\n"}
    return start_project(tmp_path_factory.mktemp("outer"), files, below="ml/my digits")


def undo(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, ROOT / "scripts/undo.py"], cwd=folder, capture_output=True, text=True)


def test_an_undo_works_in_a_folder_of_a_larger_repository(project: Path) -> None:
    """At a repository's root, tests/pipeline/test_readme.py types `make undo`."""
    other = project.parents[1] / "notes.txt"
    other.write_text("not part of the project")
    (project / "results/notes.txt").write_text("mine")
    (project / "params.yaml").write_text("train: {lr: 0.2}\n")
    run(project, "dvc", "repro", "--quiet")
    done = undo(project)
    assert done.returncode == 0, done.stderr
    assert "train.lr: 0.1 -> 0.2" in done.stdout
    for name in ("params.yaml", "results/history.csv", "saved_models/20260101-000000.pth"):
        assert (project / name).read_text() == "train: {lr: 0.1}\n"
    assert other.read_text() == "not part of the project"
    assert (project / "results/notes.txt").read_text() == "mine"


def test_a_file_that_would_be_lost_stops_an_undo_and_a_run(project: Path) -> None:
    (project / "params.yaml").write_text("train: {lr: 0.2}\n")
    check = [sys.executable, str(ROOT / "scripts/owned_folders.py")]  # what `make repro` runs first
    for name in ("notes.txt", "20250101-000000.pth", "best/model_info.json"):
        mine = project / "saved_models" / name
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("mine")
        for done in (undo(project), subprocess.run(check, cwd=project, capture_output=True, text=True)):
            assert done.returncode == 1
            assert f"saved_models/{name} would be deleted" in done.stderr
        assert mine.read_text() == "mine"
        assert (project / "params.yaml").read_text() == "train: {lr: 0.2}\n"
        mine.unlink()

    assert undo(project).returncode == 0
    assert (project / "saved_models/20260101-000000.pth").read_text() == "train: {lr: 0.1}\n"
