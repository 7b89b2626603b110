"""The tests pass for everybody: whatever a user has exported, changed or run, and wherever the checkout is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.environment import neutral
from helpers.small_pipeline import copy_files

EXPORTED = {
    "COLUMNS": "20",
    "GIT_DIR": "/nonexistent",
    "JAVA_HOME": "/nonexistent",
    "LC_ALL": "C",
    "MAKEFLAGS": "n",
    "MNIST_PIPELINE_DEBUG": "1",
    "MNIST_PIPELINE_STORAGE": "sqlite:////nonexistent/db.sqlite3",
    "MNIST_TOKEN": "secret",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "TS_CONFIG_FILE": "/nonexistent",
    "WEB_CONCURRENCY": "4",
}
HERE = {"PATH": "/usr/bin", "PYTHONPATH": "src", "HOME": "/home/someone", "https_proxy": "http://proxy:3128"}


def test_what_a_user_has_exported_does_not_reach_the_tests() -> None:
    result = neutral(EXPORTED | HERE | {"no_proxy": "intranet"})
    assert {name for name in EXPORTED if name in result} == {"LC_ALL"}
    assert result["LC_ALL"] == "C.UTF-8"
    assert result.items() >= HERE.items()
    assert result["no_proxy"] == "intranet,127.0.0.1,localhost,::1"
    assert neutral(result).keys() == result.keys()  # in the processes of pytest-xdist, once more
    assert [name for name in EXPORTED if name in os.environ] in (["LC_ALL"], ["LC_ALL", "OMP_NUM_THREADS"])


@pytest.mark.slow
def test_the_tests_pass_after_a_run_of_the_users_own(tmp_path: Path) -> None:
    """In a folder with a space, with params.yaml edited and another run's results, and with variables exported."""
    checkout = tmp_path / "my own checkout"
    copy_files(checkout)
    params = yaml.safe_load((checkout / "params.yaml").read_text())
    params["data"] |= {"dataset": "folder", "source": "photographs"}
    params["train"] |= {"lr": 0.002, "epochs": 1}
    params["tune"] |= {"search_space": {"lr": {"type": "float", "low": 0.001, "high": 0.01}}, "initial_trials": []}
    (checkout / "params.yaml").write_text(yaml.safe_dump(params))
    (checkout / "results/evaluate/metrics.json").write_text('{"accuracy": 0.5}\n')
    chosen = ["tests/unit/test_settings.py", "tests/unit/test_environment.py", "tests/pipeline/test_experiments.py"]
    figures = "tests/pipeline/test_readme.py::test_its_figures_are_those_of_the_reference_run_and_of_the_benchmarks"
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *chosen, figures]
    command += ["-k", "not after_a_run"]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=checkout, env=variables | EXPORTED, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
