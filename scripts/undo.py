"""Restore params.yaml, dvc.lock, the results and the pipeline's outputs from the last commit: `make undo`.

Nothing is changed unless DVC's cache holds every output that the commit's dvc.lock names. --check only checks this:
exit status 0 means that an undo would work.
"""

import argparse
import difflib
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from owned_folders import explain_foreign_files

from mnist_pipeline.evaluation.experiments import flatten

FILES = ("params.yaml", "dvc.lock", "results")  # what an experiment changes, of what git tracks

# The outputs of a run that was never committed can still be in DVC's run cache, which restores the stages' outputs.
WAY_OUT = """\
To go back to your own last run, if it was made with the committed params.yaml:
    git checkout HEAD -- params.yaml && rm -f dvc.lock && dvc repro
DVC's run cache restores what it has in seconds; other stages run again. Commit each run that you want to keep:
    git commit -am "My run\""""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether an undo would work")
    only_check = parser.parse_args().check
    if (reason := find_obstacle() or explain_foreign_files()) is not None:
        print(reason, file=sys.stderr)
        return 1
    if not only_check:
        undo()
    return 0


def find_obstacle() -> str | None:
    """Explain why an undo would lose outputs; None where the cache holds everything that it needs."""
    if not is_committed("dvc.lock"):
        return "Nothing was undone: the last commit has no dvc.lock, so it has no run to return to.\n" + WAY_OUT
    missing = list(find_missing_outputs(yaml.safe_load(show("dvc.lock"))))
    if not missing:
        return None
    return (
        f"Nothing was undone: DVC's cache does not hold {', '.join(missing)} of the last commit.\n"
        "Its dvc.lock names a run that was made elsewhere, such as the reference run that the repository came with.\n"
        "Where a DVC remote has the outputs, `dvc fetch` brings them, and `make undo` then works.\n" + WAY_OUT
    )


def find_missing_outputs(lock: dict[str, Any]) -> Iterator[str]:
    """Find the outputs of a dvc.lock that neither DVC's cache nor the commit itself holds."""
    cache = Path(run("dvc", "cache", "dir").strip()) / "files" / "md5"
    for stage in lock["stages"].values():
        for output in stage.get("outs", []):
            if not is_committed(output["path"]) and not is_cached(cache, output["md5"]):
                yield output["path"]


def is_cached(cache: Path, md5: str) -> bool:
    """Tell whether DVC's cache holds a file, or a folder with every file in it."""
    path = cache / md5[:2] / md5[2:]
    if not path.exists():
        return False
    return not md5.endswith(".dir") or all(is_cached(cache, file["md5"]) for file in json.loads(path.read_text()))


def is_committed(path: str) -> bool:
    """Tell whether the last commit holds a file or folder."""
    return bool(git("ls-tree", "HEAD", path).strip())


def undo() -> None:
    """Restore what git tracks from the last commit, then the outputs from DVC's cache."""
    if changes := list_changes(show("params.yaml"), Path("params.yaml").read_text()):
        print("These changes of params.yaml are undone:", *changes, sep="\n  ")
    git("checkout", "HEAD", "--", *filter(is_committed, FILES))
    # --force: outputs of a stage that was interrupted are in no cache, and the stage would remove them, too.
    run("dvc", "checkout", "--quiet", "--force")
    print(f"Back at the last commit: {git('log', '-1', '--format=%h %s').strip()}")


def list_changes(committed: str, current: str) -> list[str]:
    """List the settings that differ, a line each; where a text is no YAML, its lines that differ."""
    try:
        before, after = (dict(flatten(yaml.safe_load(text))) for text in (committed, current))
    except (yaml.YAMLError, AttributeError):
        return [line for line in difflib.ndiff(committed.splitlines(), current.splitlines()) if line[0] in "+-"]
    keys = dict.fromkeys([*before, *after])
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def show(path: str) -> str:
    """Return a file of this folder as the last commit has it; the folder may lie within a larger repository."""
    return git("show", f"HEAD:./{path}")


def git(*arguments: str) -> str:
    """Run a git command and return what it prints."""
    return run("git", *arguments)


def run(*command: str) -> str:
    """Run a command and return what it prints; if it fails, end this script with its message."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
