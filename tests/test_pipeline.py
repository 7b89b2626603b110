"""The real `dvc repro` on real digits, in a copy of the repository."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
STAGES = ["download", "tune", "train", "evaluate", "archive"]


def run(folder: Path, *command: str, fails: bool = False) -> str:
    """What a command printed, stderr after stdout; it must succeed, or fail."""
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT | {"PYTHONPATH": str(folder / "src")}, capture_output=True, text=True
    )
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def would_run(folder: Path) -> list[str]:
    """The stages that `dvc repro` would run now."""
    said = run(folder, "dvc", "repro", "--dry")
    return [stage for stage in STAGES if f"Running stage '{stage}'" in said]


@pytest.fixture(scope="module")
def copy(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's tracked files in a repository of their own, with a small budget."""
    folder = tmp_path_factory.mktemp("clone") / "repository"
    for name in run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"] |= {"mirrors": [str(mnist)], "validation_images": 300}
    params["tune"] |= {"trials": 3, "images_per_trial": 500, "reports": 2, "report_images": 100}
    params["train"] |= {"epochs": 0.04, "checkpoint_seconds": 0.2}
    params["evaluate"] |= {"photographs": 30}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for command in (
        ("git", "init", "--quiet"),
        ("git", "config", "user.email", "someone@example.org"),
        ("git", "config", "user.name", "Someone"),
        ("git", "add", "--all"),
        ("git", "commit", "--quiet", "--message", "A copy"),
    ):
        run(folder, *command)
    return folder


def kill_when(folder: Path, ready: Callable[[], bool]) -> None:
    """Start `dvc repro` and SIGKILL it with all its children once `ready` says so."""
    environment = ENVIRONMENT | {"PYTHONPATH": str(folder / "src")}
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=folder,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not ready():
        time.sleep(0.005)
    assert process.poll() is None, "dvc repro ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def repository(copy: Path) -> Path:
    """The copy after a `dvc repro` that was killed in the middle of every long stage."""
    kill_when(copy, lambda: any(copy.glob(".data*")) or any(copy.glob("data*")))
    kill_when(copy, (copy / "db.sqlite3").exists)
    assert not (copy / "results/tune/best_params.yaml").exists()
    kill_when(copy, (copy / "checkpoints/checkpoint.json").exists)
    assert not (copy / "saved_models").exists()
    kill_when(copy, lambda: any((copy / "model_store").glob(".mnist*")))
    assert not (copy / "model_store/mnist.mar").exists()
    run(copy, "dvc", "repro")
    return copy


def test_it_leaves_what_it_should(repository: Path) -> None:
    metrics = json.loads((repository / "results/evaluate/metrics.json").read_text())
    assert metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"]
    assert metrics["accuracy"] > 0.8
    assert set(metrics["per_class"]) == set("0123456789")
    (weights,) = (repository / "saved_models").glob("*.pth")
    time.strptime(weights.stem, "%Y%m%d-%H%M%S")
    info = json.loads((repository / "saved_models/model_info.json").read_text())
    assert info["weights"] == weights.name
    assert info["hyperparameters"]["lr"]["source"] == "tune"
    assert (repository / "model_store/mnist.mar").stat().st_size > 1_000_000
    best = yaml.safe_load((repository / "results/tune/best_params.yaml").read_text())
    assert {"optimizer", "lr", "batch_size"} <= best.keys()
    tracked = run(repository, "git", "ls-files", "--others", "--exclude-standard").split()
    assert not [name for name in tracked if name.startswith(("data/", "saved_models/", "model_store/", "db.sqlite3"))]


def test_a_second_repro_runs_nothing(repository: Path) -> None:
    assert would_run(repository) == []


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("handlers/mnist_handler.py", ["archive"]),
        ("src/mnist_pipeline/network.py", ["tune", "train", "evaluate", "archive"]),
        ("src/mnist_pipeline/preprocessing.py", ["evaluate", "archive"]),
        ("src/mnist_pipeline/checkpoint.py", ["train"]),
    ],
)
def test_an_edit_runs_again_what_it_should(repository: Path, file: str, stages: list[str]) -> None:
    path = repository / file
    before = path.read_text()
    path.write_text(before + "# edited\n")
    first = [stage for stage in would_run(repository) if stage in stages]
    path.write_text(before)
    assert first[0] == stages[0]
    assert would_run(repository) == []


def test_more_epochs_run_train_onward(repository: Path) -> None:
    path = repository / "params.yaml"
    before = path.read_text()
    path.write_text(before.replace("epochs: 0.04", "epochs: 0.05"))
    stages = would_run(repository)
    path.write_text(before)
    assert stages[0] == "train"


def test_an_experiment_leaves_tune_alone_and_shows_in_the_metrics(repository: Path) -> None:
    run(repository, "git", "add", "--all")
    run(repository, "git", "commit", "--quiet", "--message", "A reference run")
    said = run(repository, "dvc", "exp", "run", "--set-param", "train.lr=0.001")
    assert "Running stage 'train'" in said
    assert "Running stage 'tune'" not in said
    assert "accuracy" in run(repository, "dvc", "metrics", "diff")
    info = json.loads((repository / "saved_models/model_info.json").read_text())
    assert info["hyperparameters"]["lr"] == {"value": 0.001, "source": "params.yaml"}


def test_the_plots_can_be_drawn(repository: Path) -> None:
    run(repository, "dvc", "plots", "show", "--out", "plots")
    page = (repository / "plots/index.html").read_text()
    assert all(title in page for title in ("Training loss", "Validation accuracy", "Confusion", "Reliability"))


def test_a_wrong_key_ends_a_stage_with_one_line(repository: Path) -> None:
    said = run(repository, "dvc", "exp", "run", "--set-param", "+train.epoch=3", fails=True)
    assert "params.yaml: train.epoch is unknown; known here: optimizer, lr, batch_size" in said
    assert "Traceback" not in said
    run(repository, "git", "checkout", "params.yaml")
