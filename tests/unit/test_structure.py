"""What dvc.yaml promises: a stage runs again when the code that it depends on changes, and only then."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import ROOT
from helpers.closure import closure

from mnist_pipeline import archive

STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def python_deps(stage: str) -> set[str]:
    """The Python files among a stage's deps, those of folders included."""
    paths = [ROOT / dep for dep in STAGES[stage]["deps"]]
    files = {file for path in paths for file in ([path] if path.suffix == ".py" else path.rglob("*.py"))}
    return {str(file.relative_to(ROOT)) for file in files}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_deps_are_the_code_that_it_imports(stage: str) -> None:
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"
    needed = closure(ROOT / "stages" / f"{stage}.py") | {"stages/__init__.py"}
    if stage == "archive":  # it packs what the server imports
        needed |= {"handlers/mnist_handler.py", *(str(path.relative_to(ROOT)) for path in archive.SOURCES)}
    assert python_deps(stage) == needed


def test_the_closure_follows_imports_within_functions_and_of_packages() -> None:
    found = closure(ROOT / "stages/tune.py")
    assert "src/mnist_pipeline/distributed.py" in found  # imported where several workers are asked for
    assert "src/mnist_pipeline/network.py" in found
    assert "src/mnist_pipeline/settings.py" not in found
    assert not any(Path(name).name.startswith("test_") for name in found)
