"""The tests pass for everybody: whatever a user has exported, changed or run, and wherever the checkout is."""

import os
import shutil
import subprocess
from pathlib import Path

from helpers import ROOT
from helpers.environment import neutral

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


MAKEFILE = """
setup:
	@mkdir -p .venv/bin
	@echo 'dvc() { echo "dvc $$*"; echo edited >params.yaml; }' >.venv/bin/activate
lint test-extras:
	@echo "make $@"
test:
	@echo "make $@ in $${PWD##*/}, after: $$(git log -1 --format=%s), changed: $$(git status --porcelain)"
	@echo "home: $$(ls -A "$$HOME")"
	@env
	@exit $(shell cat status)
"""


def test_ci_tests_what_a_newcomer_has(tmp_path: Path) -> None:
    """An empty home, nothing exported, a folder with a space, a run that is committed; a failure is CI's."""
    project, path = tmp_path / "project", tmp_path / "bin"
    tools = ("bash", "sh", "env", "git", "make", "mktemp", "mkdir", "dirname", "rm", "cmp", "ls", "cat")
    path.mkdir()
    for tool in tools:  # and no apt-get, which could install something
        (path / tool).symlink_to(shutil.which(tool) or "")
    (project / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", project / ".ci")
    (project / "Makefile").write_text(MAKEFILE)
    (project / ".gitignore").write_text(".venv/\n")
    exported = EXPORTED | {"PATH": str(path), "HOME": str(project), "PIP_RETRIES": "7", "TMPDIR": str(tmp_path)}
    del exported["GIT_DIR"]
    for status in (0, 3):
        for name in ("params.yaml", "status"):
            (project / name).write_text(f"{status}\n")
        initial = "git init -q . && git add -A && git -c user.name=A -c user.email=a@example.org commit -qm Initial"
        subprocess.run(["bash", "-c", initial], cwd=project, check=True)
        done = subprocess.run([".ci/run"], cwd=project, env=exported, capture_output=True, text=True, check=False)
        said = done.stdout.splitlines()
        assert "make test in with space, after: My run, changed: " in said, done.stdout + done.stderr
        assert said.index("make lint") < said.index("home: ")
        assert any(line.startswith("dvc exp run --set-param=data.validation_images=") for line in said)
        assert {"PIP_RETRIES=7", "LANG=C.UTF-8", "CI=true"} <= set(said)
        assert not [line for line in said if line.partition("=")[0] in EXPORTED.keys() - {"MAKEFLAGS"}]
        assert (bool(done.returncode), "make test-extras" in said) == (bool(status), not status)
    assert list(tmp_path.glob("tmp.*")) == []
