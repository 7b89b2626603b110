"""A small pipeline: the repository's own, on a few thousand real digits, in a repository of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import yaml

from helpers import REFERENCE, ROOT
from mnist_pipeline.data.dataset import load, load_test

ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
# Folders from which files that git does not track yet are copied too. A user's pictures are not.
CODE = ("src", "stages", "handlers", "scripts", "tests", "benchmarks")
STAGES = ["download", "tune", "train", "archive", "evaluate"]
MAKE = ("make", "-o", "setup", "ACTIVATE=:")  # a target's own commands, in the environment that the tests run in


def run(folder: Path, *command: str, fails: bool = False, environment: Mapping[str, str] | None = None) -> str:
    """What a command printed, stderr after stdout; it must succeed, or fail."""
    variables = ENVIRONMENT | dict(environment or {})
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def would_run(folder: Path) -> list[str]:
    """The stages that `dvc repro` would run now."""
    said = run(folder, "dvc", "repro", "--dry")
    return [stage for stage in STAGES if f"Running stage '{stage}'" in said]


def copy(mnist: Path, folder: Path) -> Path:
    """The repository's files in a new repository, with few images (mnist.npz) and a small budget.

    Its dvc.lock is that of the last run that was committed, whose outputs its empty cache does not hold.
    """
    copy_files(folder)
    params = yaml.safe_load((REFERENCE / "params.yaml").read_text())
    params["data"] |= {"dataset": "folder", "source": few_digits(mnist, folder), "validation_images": 300}
    params["tune"] |= {"trials": 3, "images_per_trial": 500, "evaluations": 2, "evaluation_images": 100}
    params["tune"] |= {"retrained_trials": 1, "retraining_fraction": 0.01, "seconds": 10_000}
    params["train"] |= {"epochs": 0.6, "checkpoint_seconds": 3.0, "outliers": 0.05, "digit_forms": 0.02}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    # The project's own configuration, without the remote or the cache that a team may have added.
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n    autostage = true\n")
    start_repository(folder)
    commit_all(folder)
    return folder


def start_project(repository: Path, files: Mapping[str, str], below: str = ".") -> Path:
    """Write files into a folder of a new git repository, with a DVC pipeline that is run once; commit all of it."""
    folder = repository / below
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    start_repository(repository)
    for command in ("init -q --subdir", "config core.autostage true", "config core.analytics false", "repro -q"):
        run(folder, "dvc", *command.split())
    commit_all(folder)
    return folder


def start_repository(folder: Path) -> None:
    for command in ("init --quiet", "config user.email someone@example.org", "config user.name Someone"):
        run(folder, "git", *command.split())


def commit_all(folder: Path) -> None:
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", "A commit")


def copy_files(folder: Path) -> None:
    """Copy the repository's tracked files as they are now, and what is new in CODE."""
    new = run(ROOT, "git", "ls-files", "--others", "--exclude-standard", *CODE).splitlines()
    for name in run(ROOT, "git", "ls-files").splitlines() + new:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def few_digits(mnist: Path, folder: Path) -> str:
    """The name of a new file with 6,000 training and 500 test images of MNIST, as Keras distributes the whole of it."""
    images, labels = load(mnist, 10, 0).train
    test = load_test(mnist)
    arrays = {"x_train": images[:6000, 0], "y_train": labels[:6000]}
    arrays |= {"x_test": test.images[:500, 0], "y_test": test.labels[:500]}
    np.savez(folder / "mnist.npz", allow_pickle=False, **arrays)
    return "mnist.npz"


def kill_when(folder: Path, ready: Callable[[], bool]) -> None:
    """Start `dvc repro` and SIGKILL it with all its children once `ready` says so."""
    process = subprocess.Popen(["dvc", "repro"], cwd=folder, env=ENVIRONMENT, start_new_session=True)
    while process.poll() is None and not ready():
        time.sleep(0.005)
    assert process.poll() is None, "dvc repro ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def interrupted(copy: Path) -> Path:
    """The copy after a `make repro` that was killed in the middle of tune and of train; nothing is committed."""
    kill_when(copy, (copy / "db.sqlite3").exists)
    assert not (copy / "results/tune/best_params.yaml").exists()
    kill_when(copy, (copy / "checkpoints/checkpoint.pt").exists)
    assert not (copy / "saved_models").exists()
    run(copy, *MAKE, "repro")
    return copy
