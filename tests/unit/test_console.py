import os
import subprocess
import sys

import pytest

SCRIPT = "from mnist_pipeline import console\ndef stage():\n    raise {}\nconsole.run(stage)"


def said(error: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(error)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_users_mistake_is_one_line() -> None:
    done = said("ValueError('lr = 3, but ...')")
    assert done.returncode == 1
    assert done.stderr == "ValueError: lr = 3, but ...\n"


def test_the_stack_trace_can_be_asked_for() -> None:
    assert "Traceback" in said("ValueError('x')", MNIST_PIPELINE_DEBUG="1").stderr


def test_a_mistake_of_ours_keeps_its_stack_trace() -> None:
    done = said("TypeError('x')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("interrupt", ["KeyboardInterrupt"])
def test_an_interrupt_says_how_to_go_on(interrupt: str) -> None:
    done = said(interrupt)
    assert done.returncode == 130
    assert "`dvc repro` goes on" in done.stderr
