"""Who may import whom, and what dvc.yaml promises: a stage runs again when code that it depends on changes."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import ROOT
from helpers.closure import closure, computes, imported_files

import mnist_pipeline
from mnist_pipeline.serving import archive

STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def python_deps(stage: str) -> set[str]:
    """The Python files among a stage's deps, those of folders included."""
    paths = [ROOT / dep for dep in STAGES[stage]["deps"]]
    files = {file for path in paths for file in ([path] if path.suffix == ".py" else path.rglob("*.py"))}
    return {str(file.relative_to(ROOT)) for file in files if computes(file)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_deps_cover_the_code_that_it_imports_and_no_other_package(stage: str) -> None:
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"
    needed = closure(ROOT / "stages" / f"{stage}.py") | {"stages/__init__.py"}
    if stage == "archive":  # it packs what the server imports
        needed |= {
            "handlers/mnist_handler.py",
            *(str(path.relative_to(ROOT)) for path in archive.TRAVELLING if computes(path)),
        }
    assert python_deps(stage) >= needed
    assert {Path(file).parent for file in python_deps(stage)} == {Path(file).parent for file in needed}


# What each package may import, of the packages.
BELOW = {
    "data": set(),
    "reading": set(),
    "sources": {"data", "reading"},
    "training": {"data", "reading"},
    "tuning": {"data", "reading", "training"},
    "serving": {"data", "reading", "training"},
    "evaluation": {"data", "reading", "training", "serving"},
}
PACKAGE = ROOT / "src/mnist_pipeline"


def imported_packages(file: Path) -> set[str]:
    """The packages of mnist_pipeline, and its modules that stand above them, that a file's import statements name."""
    relative = [path.relative_to(PACKAGE).with_suffix("").parts for path in imported_files(file)]
    return {parts[0] for parts in relative if parts != ("__init__",)}


@pytest.mark.parametrize("package", BELOW)
def test_imports_point_one_way(package: str) -> None:
    shared = {"centring"} if package == "reading" else {"centring", "console", "figures", "files", "folders"}
    for file in (PACKAGE / package).rglob("*.py"):
        allowed = BELOW[package] | shared | {package}
        allowed |= {"settings"} & imported_packages(file) if is_command(file) else set()
        assert imported_packages(file) <= allowed, file


def is_command(file: Path) -> bool:
    """Whether a module is run by itself: such modules may read params.yaml."""
    return '__name__ == "__main__"' in file.read_text()


def test_no_module_imports_itself_through_others() -> None:
    files = [file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py"]
    imports = {file: imported_files(file) - {file} for file in files}
    for file in files:
        waiting, found = list(imports[file]), set()
        while waiting:
            if (module := waiting.pop()) not in found:
                found.add(module)
                waiting += imports.get(module, ())
        assert file not in found, file


def test_python_users_find_what_the_package_offers() -> None:
    for name in mnist_pipeline.__all__:
        assert callable(getattr(mnist_pipeline, name))
    with pytest.raises(AttributeError, match="no attribute 'trian'; it has DigitNetwork"):
        _ = mnist_pipeline.trian


def test_reading_a_picture_imports_no_torch() -> None:
    script = "import sys, mnist_pipeline; mnist_pipeline.read_digit; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": str(ROOT / "src")})


def test_a_stage_runs_the_code_of_its_own_folder(tmp_path: Path) -> None:
    """DVC runs a queued experiment in a copy, where the installed package is still the original's."""
    for name in ("stages/__init__.py", "src/mnist_pipeline/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, tmp_path / name)
    script = "import stages, mnist_pipeline; print(mnist_pipeline.__file__)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)
