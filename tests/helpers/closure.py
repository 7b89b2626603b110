"""Which files of this project a Python file imports, itself or through others: what a stage's result depends on."""

import ast
from pathlib import Path

from helpers import ROOT

SOURCES = (ROOT / "src", ROOT)  # where imports are looked up: the package, and the stages

# No result depends on these. settings checks params.yaml, whose values DVC compares itself; console prints messages;
# the package's own __init__ names what Python users import. Neither does an __init__ that is only a docstring.
WITHOUT_RESULT = {f"src/mnist_pipeline/{name}.py" for name in ("__init__", "console", "settings")}


def closure(file: Path) -> set[str]:
    """The files that a file needs, itself among them, as paths from the repository's root; WITHOUT_RESULT left out."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        if (path := waiting.pop()) not in found:
            found.add(path)
            waiting.extend(imported_files(path))
    return {str(path.relative_to(ROOT)) for path in found if computes(path)} - WITHOUT_RESULT


def computes(file: Path) -> bool:
    """Whether a file is more than a docstring."""
    return len(ast.parse(file.read_text()).body) > 1


def imported_files(file: Path) -> set[Path]:
    """The files of this project that a file's own import statements load, those within functions included."""
    files: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = file.relative_to(ROOT / "src").parts[: -node.level]
                base = ".".join([*parents, *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            files |= files_of(name)
    return files


def files_of(name: str) -> set[Path]:
    """The files that importing a dotted name loads: each package's __init__.py on the way, and the module."""
    parts = name.split(".")
    for source in SOURCES:
        loaded = set()
        for length in range(1, len(parts) + 1):
            place = source.joinpath(*parts[:length])
            loaded |= {path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()}
        if loaded:
            return loaded
    return set()
