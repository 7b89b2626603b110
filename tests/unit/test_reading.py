"""The folder `reading` travels in the archive: it works there under another name, with three packages and no more."""

import ast
import importlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from helpers.pen_digits import SEVEN, draw_digit, encode

from mnist_pipeline import reading

FOLDER = ROOT / "src/mnist_pipeline/reading"


def test_imports_only_what_the_server_has() -> None:
    imported = set()
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).partition(".")[0])
    assert imported - sys.stdlib_module_names == {"numpy", "cv2", "PIL", "pillow_heif"}  # the last is optional


def test_works_under_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "renamed"
    shutil.copytree(FOLDER, package / "reading", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(FOLDER.parent / "centring.py", package)
    monkeypatch.syspath_prepend(tmp_path)
    renamed = importlib.import_module("renamed.reading")
    seven = encode(draw_digit(SEVEN))
    for name in ("handwriting", "picture"):
        image = reading.read_image(seven, reading.Form(name))
        assert np.array_equal(renamed.read_image(seven, renamed.Form(name)), image)
