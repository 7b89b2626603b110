"""Queue again the experiments that failed or were killed, which DVC cannot, and start the queue: `make requeue`."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from mnist_pipeline.evaluation.experiments import is_running

FOLDER = Path(".dvc/tmp/exps")  # where DVC notes the processes, and the copies in which experiments run
OUTCOMES = (":!params.yaml", ":!dvc.lock", ":!results", ":!.dvc/tmp")  # all else is code, which has to be the commit's


def main() -> None:
    if run("git", "status", "--porcelain", "--untracked-files=no", "."):
        sys.exit(
            "Nothing was queued. Commit or undo your changes first (`git diff` shows them): they would be queued, too."
        )
    working = any(runs(worker, "queue-worker") for worker in (FOLDER / "celery").glob("dvc-exp-worker-*.json"))
    status = run("dvc", "queue", "status")
    for short, name, state in re.findall(r"^([0-9a-f]{7}) +(\S+) .* (Running|Failed) *$", status, re.MULTILINE):
        revision = run("git", "rev-parse", short).strip()
        copy, process = (FOLDER / "run" / revision / f"{revision}.{kind}" for kind in ("run", "json"))
        if state == "Running" and (working or runs(process, revision)):
            print(f"{name} is running, and left alone.")
        elif subprocess.run(["git", "diff", "--quiet", "HEAD", revision, "--", ".", *OUTCOMES]).returncode:
            print(f"{name} is left alone: its code is not the last commit's. Queue it again yourself.")
        else:
            if state == "Running":
                process.unlink(missing_ok=True)  # DVC would send a signal to its number, perhaps another's by now
                run("dvc", "queue", "kill", name)
            if copy.exists():
                shutil.rmtree(json.loads(copy.read_text())["root_dir"], ignore_errors=True)
            if not re.search(rf" {name} .* Queued", status):  # as after a kill of this script
                Path("params.yaml").write_text(run("git", "show", f"{revision}:./params.yaml"))
                try:
                    run("dvc", "exp", "run", "--queue", "--name", name)
                finally:
                    run("git", "checkout", "HEAD", "--", "params.yaml")
            run("dvc", "queue", "remove", short)  # the last step, so that a crash loses nothing
            print(f"{name} is queued again.")
    # The worker keeps this command's stdout, so whoever reads a pipe would wait for the whole queue.
    subprocess.run(["dvc", "queue", "start"], check=True, stdout=subprocess.DEVNULL)


def runs(note: Path, word: str) -> bool:
    """Tell whether the process that a file of DVC notes runs, with this word in its command line."""
    return note.exists() and is_running(json.loads(note.read_text())["pid"], word)


def run(*command: str) -> str:
    """Run a command and return what it prints; end this script with its message where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
