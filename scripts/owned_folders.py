"""Refuse `make repro` and `make undo` where saved_models/, which DVC empties, holds a file that is not the pipeline's.

The names of the weights follow from the time of the training, so dvc.yaml can only name the folder as a whole.
"""

import json
import sys
from pathlib import Path

FOLDER = Path("saved_models")
INFO = "model_info.json"


def find_foreign_files(folder: Path = FOLDER) -> list[Path]:
    """List the files that `train` did not write: all but model_info.json and the weights that it names."""
    try:
        own = {INFO, json.loads((folder / INFO).read_text())["weights"]}
    except (OSError, ValueError, KeyError, TypeError):
        own = {INFO}
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    return [path for path in files if str(path.relative_to(folder)) not in own]


def explain_foreign_files(folder: Path = FOLDER) -> str | None:
    """Say which files would be lost and what to do; None where there is none."""
    if not (files := find_foreign_files(folder)):
        return None
    return (
        f"Nothing was changed: {', '.join(map(str, files))} would be deleted, because DVC owns the folder {folder}. "
        "Move what you want to keep to another folder, or delete it, and try again."
    )


if __name__ == "__main__":
    sys.exit(explain_foreign_files())
