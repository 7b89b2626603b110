import os
import subprocess
import sys

import pytest

from mnist_pipeline import console
from mnist_pipeline.data.dataset import DataError

TRACE = "Traceback (most recent call last)"


def print_of(error: BaseException, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What `run` prints on stderr for a stage that raises; it must end the process with status 1."""
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)

    def stage() -> None:
        raise error

    console.run(stage)
    assert statuses == [1]
    return capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("data/ is empty"), "DataError: data/ is empty\n"),
        (PermissionError(13, "Permission denied", "data"), "PermissionError: [Errno 13] Permission denied: 'data'\n"),
    ],
)
def test_what_the_user_can_fix_is_one_line(
    error: Exception, line: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_PIPELINE_DEBUG", raising=False)
    assert print_of(error, capfd, monkeypatch) == line


def test_its_stack_trace_can_be_asked_for(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_PIPELINE_DEBUG", "1")
    said = print_of(DataError("data/ is empty"), capfd, monkeypatch)
    assert said.startswith(TRACE)
    assert said.endswith("DataError: data/ is empty\n")


@pytest.mark.slow
def test_an_interrupt_says_how_to_resume() -> None:
    script = "from mnist_pipeline import console\ndef stage():\n    raise KeyboardInterrupt\nconsole.run(stage)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "`dvc repro` resumes" in done.stderr
    assert TRACE not in done.stderr
