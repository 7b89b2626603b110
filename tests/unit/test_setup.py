"""`make setup`'s script on a small project: an empty lock, and real virtual environments; what make gives commands."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT

# Builds an editable package of one command without setuptools, which the small project's environments do not have.
BACKEND = """
import zipfile

INFO = "small-1.dist-info"
COMMANDS = "[console_scripts]\\ntorchserve = small:main\\n"
WHEEL = "Wheel-Version: 1.0\\nGenerator: small\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"


def build_editable(folder, config_settings=None, metadata_directory=None):
    files = {"METADATA": "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\n", "WHEEL": WHEEL}
    files |= {"entry_points.txt": COMMANDS, "RECORD": ""}
    with zipfile.ZipFile(f"{folder}/small-1-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(f"{INFO}/{name}", content)
        wheel.writestr("small.py", "def main():\\n    print('small')\\n")
    return "small-1-py3-none-any.whl"
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def make_project(folder: Path) -> Path:
    """A repository with the script and nothing to install but its own command."""
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/setup.sh", folder / "scripts")
    (folder / "backend.py").write_text(BACKEND)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "requirements.lock").touch()
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    return folder


def make_command(folder: Path, name: str, script: str) -> Path:
    """A command of a PATH that the test puts together; the PATH itself."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return folder


def path_without_python(folder: Path) -> Path:
    """A PATH with what the script needs and no Python at all."""
    folder.mkdir(parents=True)
    for tool in ("bash", "sh", "git", "dirname", "cksum", "head", "cat", "rm", "env"):
        found = shutil.which(tool)
        assert found
        (folder / tool).symlink_to(found)
    return folder


def setup(project: Path, *, fails: bool = False, **environment: str) -> str:
    """What the script printed; it must succeed, or fail."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "PYTHONPATH")}
    done = subprocess.run(
        ["bash", "scripts/setup.sh"],
        cwd=project,
        env=variables | {"PYTHON": ""} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["My Pictures", """it's a"b$c$(d)${e}$$`id`;#&|*%\\:=""", "-x", "~", "two\nlines"])
@pytest.mark.parametrize(
    ("target", "variable", "command"),
    [
        ("score", "PICTURES", ["python", "-m", "mnist_pipeline.evaluation.score", "--"]),
        ("serve", "PORT", ["python", "-m", "mnist_pipeline.serve", "--port"]),
        ("table", "BASELINE", ["python", "-m", "mnist_pipeline.evaluation.experiments", "--baseline"]),
    ],
)
def test_make_gives_a_name_on_as_it_is(
    tmp_path: Path, target: str, variable: str, command: list[str], name: str
) -> None:
    path = make_command(tmp_path / "bin", "python", r"""printf '%s\0' python "$@" >&3""")
    for as_argument in (True, False):
        given = f"{variable}={name}"
        done = make(
            tmp_path, path, target, *([given] if as_argument else []), **({} if as_argument else {variable: name})
        )
        assert done == [*command, name]


def make(folder: Path, path: Path, *arguments: str, **environment: str) -> list[str]:
    """The arguments of the one command that a recipe of the Makefile runs, which writes them to descriptor 3."""
    with (folder / "arguments").open("w+") as file:
        command = ["make", "--silent", "--old-file=setup", "ACTIVATE=:", *arguments]
        subprocess.run(
            ["bash", "-c", 'exec 3>"$1"; shift; exec "$@"', "bash", file.name, *command],
            cwd=ROOT,
            env={"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"} | environment,
            check=True,
        )
        return file.read().split("\0")[:-1]


def test_make_gives_a_python_on_as_it_is(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    make_command(tmp_path / "scripts", "setup.sh", 'printf "<%s>" "$PYTHON" "$@"')
    command = ["make", "--silent", "ACTIVATE=:", "setup", 'PYTHON=/My $x/it\'s "3"']
    done = subprocess.run(command, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, check=True, capture_output=True)
    assert done.stdout.decode() == '</My $x/it\'s "3">'


def test_make_score_without_pictures_says_what_is_missing() -> None:
    command = ["make", "--silent", "--old-file=setup", "ACTIVATE=:", "score"]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert done.returncode
    assert "PICTURES: is missing: make score PICTURES=folder" in done.stderr


def base_python() -> str:
    return subprocess.run(
        [sys.executable, "-c", "import sys; print(sys._base_executable)"], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_one_line_where_no_python_works(tmp_path: Path) -> None:
    project, path = make_project(tmp_path / "project"), path_without_python(tmp_path / "bin")
    said = setup(project, fails=True, PATH=str(path))
    assert said.startswith("setup: none of python3.11 python3.12 python3.13 python3.14 python3 is a working Python")
    assert said.count("\n") == 1
    make_command(path, "python3", f'exec "{base_python()}" -c "import sys; sys.version_info = (3, 10, 0); $2"')
    make_command(path, "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    assert setup(project, fails=True, PATH=str(path)) == said
    named = setup(project, fails=True, PATH=str(path), PYTHON="python3.12")
    assert named.startswith("setup: PYTHON=python3.12 is no working Python")
    assert not (project / ".venv").exists()


def test_one_line_where_there_is_no_git_repository(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    shutil.rmtree(project / ".git")
    said = setup(project, fails=True, GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert said.startswith("setup: this folder is no git repository")
    assert 'git init && git add --all && git commit --message "As downloaded"' in said
    assert said.count("\n") == 1
    assert not (project / ".venv").exists()


@pytest.mark.slow
def test_takes_the_first_python_that_works(tmp_path: Path) -> None:
    project, path = make_project(tmp_path / "project with a space"), path_without_python(tmp_path / "bin")
    make_command(path, "python3.11", "echo 'pyenv: python3.11: command not found' >&2; exit 127")
    (path / "python3.13").symlink_to(base_python())
    assert f"Making .venv with {path / 'python3.13'}: there is none" in setup(project, PATH=str(path))
    command = [str(project / ".venv/bin/torchserve")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "small\n"


@pytest.mark.slow
def test_notices_what_became_of_the_environment(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    for sign in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(["bash", "scripts/setup.sh"], cwd=project, start_new_session=True)
        while not (project / ".venv/bin/python").exists():
            time.sleep(0.01)
        os.killpg(process.pid, sign)
        process.wait()
    assert "an earlier set-up was stopped before its end" in setup(project)
    made = (project / ".venv/bin/python").lstat().st_mtime_ns

    def rebuilt() -> bool:
        nonlocal made
        before, made = made, (project / ".venv/bin/python").lstat().st_mtime_ns
        return before != made

    assert setup(project) == ""
    same = str((project / ".venv/bin/python").resolve())
    assert setup(project, PYTHON=same) == ""  # the same Python, by another path
    assert setup(project, PYTHON=str(project / ".venv/bin/python")) == ""
    (project / "requirements.lock").write_text("unreachable==1 --hash=sha256:" + 64 * "0")
    assert "setup: pip failed" in setup(project, fails=True, PIP_NO_INDEX="1")
    (project / "requirements.lock").write_text("# another lock\n")
    (project / ".venv/bin/torchserve").unlink()
    setup(project)
    assert (project / ".venv/bin/torchserve").exists()
    assert not rebuilt()

    project = project.rename(tmp_path / "renamed")
    assert f"it was made in {tmp_path / 'project'}, and environments cannot be moved" in setup(project)
    assert rebuilt()
    assert str(project) in (project / ".venv/bin/torchserve").read_text()

    (project / ".venv/bin/python").unlink()
    (project / ".venv/bin/python").symlink_to(tmp_path / "removed")
    assert "its Python no longer works" in setup(project)
    assert rebuilt()
