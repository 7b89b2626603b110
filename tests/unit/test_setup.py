"""`make setup`'s script on a small project with an empty lock; what make gives commands."""

import os
import shutil
import subprocess
import sys
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
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert bool(done.returncode) == fails, done.stdout
    return done.stdout


@pytest.mark.parametrize("name", ["My Pictures", """it's a"b$c$(d)${e}$$`id`;#&|*%\\:=""", "-x", "two\nlines"])
@pytest.mark.parametrize("as_argument", [True, False])
@pytest.mark.parametrize(
    ("target", "variable", "command"),
    [
        ("score", "PICTURES", ["-m", "mnist_pipeline.evaluation.score", "--"]),
        ("serve", "PORT", ["-m", "mnist_pipeline.serve", "--port"]),
        ("table", "BASELINE", ["-m", "mnist_pipeline.evaluation.experiments", "--baseline"]),
    ],
)
def test_make_gives_a_name_on_as_it_is(
    tmp_path: Path, target: str, variable: str, command: list[str], as_argument: bool, name: str
) -> None:
    path = make_command(tmp_path / "bin", "python", f"""printf '%s\\0' "$@" >'{tmp_path}/arguments'""")
    environment = {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    typed = ["make", "--silent", "--old-file=setup", "ACTIVATE=:", target]
    if as_argument:
        typed.append(f"{variable}={name}")
    else:
        environment[variable] = name
    subprocess.run(typed, cwd=ROOT, env=environment, check=True)
    assert (tmp_path / "arguments").read_text().split("\0")[:-1] == [*command, name]


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
    make_command(path, "python3", f'exec "{base_python()}" -c "import sys; sys.version_info = (3, 10, 0); $2"')
    make_command(path, "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    said = setup(project, fails=True, PATH=str(path))
    assert said.startswith("setup: none of python3.11 python3.12 python3.13 python3.14 python3 is a working Python")
    assert said.count("\n") == 1
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


@pytest.mark.parametrize(
    ("made_in", "python", "reason"),
    [
        (None, None, "an earlier set-up was stopped before its end"),
        ("/elsewhere", None, "it was made in /elsewhere, and environments cannot be moved"),
        ("", None, "its Python no longer works"),
        ("", "echo another", "its Python is another, not 3.12 /usr"),
    ],
)
def test_an_environment_that_cannot_be_used_is_made_again(
    tmp_path: Path, made_in: str | None, python: str | None, reason: str
) -> None:
    """With Pythons that only say where and what they are, and make no environment."""
    project = make_project(tmp_path / "project")
    (project / ".venv").mkdir()
    if made_in is not None:
        (project / ".venv/ready").write_text(made_in or str(project))
    if python:
        make_command(project / ".venv/bin", "python", python)
    path = make_command(tmp_path / "bin", "python3.12", 'case "$2" in *base_exe*) echo "$0";; *) echo 3.12 /usr;; esac')
    named = str(path / "python3.12")
    assert f"Making .venv with {named}: {reason}. " in setup(project, fails=True, PYTHON=named)


@pytest.mark.slow
def test_takes_the_first_python_that_works_and_installs_what_the_lock_lists(tmp_path: Path) -> None:
    project, path = make_project(tmp_path / "project with a space"), path_without_python(tmp_path / "bin")
    make_command(path, "python3.11", "echo 'pyenv: python3.11: command not found' >&2; exit 127")
    (path / "python3.13").symlink_to(base_python())
    assert f"Making .venv with {path / 'python3.13'}: there is none" in setup(project, PATH=str(path))
    command = project / ".venv/bin/torchserve"
    assert subprocess.run([command], check=True, capture_output=True, text=True).stdout == "small\n"
    assert setup(project) == ""
    assert setup(project, PYTHON=str(project / ".venv/bin/python")) == ""  # the same Python, by another path
    (project / "requirements.lock").write_text("unreachable==1 --hash=sha256:" + 64 * "0")
    assert "setup: pip failed" in setup(project, fails=True, PIP_NO_INDEX="1")
    (project / "requirements.lock").write_text("# another lock\n")
    command.unlink()
    assert "Making" not in setup(project)
    assert command.exists()
