"""What a newcomer does first, on a clone with an empty cache: run, commit, experiment, undo; and queued experiments."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helpers.small_pipeline import run, would_run

HERE = ("make", "-o", "setup", "ACTIVATE=:")  # the recipe itself, in the environment that the tests run in
IDENTITY = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "EMAIL": "", "HOME": "/nonexistent"}


@pytest.fixture(scope="module")
def clone(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the small pipeline's repository, whose dvc.lock names a run that its own cache does not hold."""
    folder = tmp_path_factory.mktemp("newcomer") / "clone"
    run(repository, "git", "clone", "--quiet", str(repository), str(folder))
    return folder


def outputs(folder: Path) -> dict[str, bytes]:
    """The content of every file that the pipeline leaves, and of what an experiment changes."""
    places = ["params.yaml", "dvc.lock", "saved_models", "model_store", "results"]
    files = [path for place in places for path in [folder / place, *(folder / place).rglob("*")] if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def weights_sha(folder: Path) -> str:
    return str(json.loads((folder / "saved_models/model_info.json").read_text())["sha256"])


def test_run_commit_experiment_undo(clone: Path) -> None:
    run(clone, "dvc", "repro")
    said = run(clone, "scripts/suggest_commit.sh", **IDENTITY)
    assert 'git config user.name "Your Name" && git config user.email you@example.org' in said
    assert 'git commit -am "My run"' in said
    first, model = outputs(clone), weights_sha(clone)

    # Before the commit there is nothing to return to, and nothing is touched.
    said = run(clone, *HERE, "undo", fails=True)
    assert "Nothing was undone: DVC's cache does not hold" in said
    assert "saved_models" in said
    assert outputs(clone) == first

    # The way out that the message names: the run cache still has the run.
    (clone / "dvc.lock").write_text(run(clone, "git", "show", "HEAD:dvc.lock"))
    run(clone, "bash", "-c", "git checkout HEAD -- params.yaml && rm -f dvc.lock && dvc repro")
    assert weights_sha(clone) == model

    run(clone, "bash", "-c", 'git config user.name "Your Name" && git config user.email you@example.org')
    run(clone, "git", "commit", "-am", "My run")
    assert run(clone, "scripts/suggest_commit.sh") == ""
    kept = outputs(clone)
    run(clone, "dvc", "exp", "run", "--set-param", "train.epochs=0.03")
    assert weights_sha(clone) != model
    notes = clone / "README.md"
    notes.write_text(notes.read_text() + "My own notes.\n")
    said = run(clone, *HERE, "undo")
    assert "+  epochs: 0.03" in said
    assert "Back at the last commit" in said
    assert outputs(clone) == kept
    assert weights_sha(clone) == model
    assert would_run(clone) == []
    assert notes.read_text().endswith("My own notes.\n")  # what is no part of a run stays as it is
    run(clone, "git", "checkout", "README.md")


@pytest.fixture
def edited(clone: Path) -> Iterator[Path]:
    """The clone, whose evaluation also writes that it was edited."""
    module = clone / "src/mnist_pipeline/evaluate_model.py"
    before = module.read_text()
    line = '    files.write_json(results_folder / "metrics.json", metrics)\n'
    assert before.count(line) == 1
    module.write_text(before.replace(line, f'    metrics["edited"] = True\n{line}'))
    yield module
    module.write_text(before)


def test_a_queued_experiment_runs_the_code_that_it_was_queued_with(clone: Path, edited: Path) -> None:
    after = edited.read_text()
    run(clone, "dvc", "exp", "run", "--queue", "--name", "queued", "--set-param", "evaluate.photographs=0")
    edited.write_text(run(clone, "git", "show", f"HEAD:{edited.relative_to(clone)}"))
    run(clone, "dvc", "exp", "run", "--run-all")
    assert run(clone, "git", "show", f"queued:{edited.relative_to(clone)}") == after
    assert json.loads(run(clone, "git", "show", "queued:results/evaluate/metrics.json"))["edited"] is True
    assert yaml.safe_load(run(clone, "git", "show", "queued:params.yaml"))["evaluate"]["photographs"] == 0
    assert "edited" not in json.loads((clone / "results/evaluate/metrics.json").read_text())
