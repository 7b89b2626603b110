"""Queue again the experiments that failed or were killed, and start the queue: `make requeue`.

After a power failure DVC calls the killed experiment running for ever, and `dvc queue stop --kill` ends the next worker
early. An experiment keeps its name and its params.yaml; stages that it had finished come from DVC's cache.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(".dvc/tmp/exps")  # where DVC notes the processes, and the copies in which experiments run
OUTCOMES = (":!params.yaml", ":!dvc.lock", ":!results", ":!.dvc/tmp")  # all else is code, which has to be the commit's


def main() -> None:
    if run("git", "status", "--porcelain", "--untracked-files=no", "."):
        sys.exit('Nothing was queued. Commit your changes first (git commit -am "My run"): they would be queued, too.')
    working = any(is_process(worker, "queue-worker") for worker in (FOLDER / "celery").glob("dvc-exp-worker-*.json"))
    tasks = re.findall(r"^([0-9a-f]{7}) +(\S+) .* (Running|Failed) *$", run("dvc", "queue", "status"), re.MULTILINE)
    for short, name, state in tasks:
        revision = run("git", "rev-parse", short).strip()
        notes = FOLDER / "run" / revision
        if state == "Running" and (working or is_process(notes / f"{revision}.json", revision)):
            print(f"{name} is running, and left alone.")
        elif subprocess.run(["git", "diff", "--quiet", "HEAD", revision, "--", ".", *OUTCOMES]).returncode:
            print(f"{name} is left alone: its code is not the last commit's. Queue it again yourself.")
        else:
            if state == "Running":
                # DVC would send a signal to the process number in this file, by now perhaps another program's.
                (notes / f"{revision}.json").unlink(missing_ok=True)
                run("dvc", "queue", "kill", name)
            if (copy := notes / f"{revision}.run").exists():
                shutil.rmtree(json.loads(copy.read_text())["root_dir"], ignore_errors=True)
            Path("params.yaml").write_text(run("git", "show", f"{revision}:./params.yaml"))
            run("dvc", "exp", "run", "--queue", "--name", name)
            run("git", "checkout", "HEAD", "--", "params.yaml")
            run("dvc", "queue", "remove", short)  # the last step, so that a crash loses nothing
            print(f"{name} is queued again.")
    # The worker keeps what this command writes to, so whoever reads a pipe would wait for the whole queue.
    started = subprocess.run(["dvc", "queue", "start"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    sys.exit("`dvc queue start` failed; run it to see why." if started.returncode else 0)


def is_process(note: Path, word: str) -> bool:
    """Tell whether the process that a file of DVC notes exists and has this word in its command line."""
    command = Path(f"/proc/{json.loads(note.read_text())['pid']}/cmdline") if note.exists() else Path("absent")
    return command.exists() and word in command.read_text()


def run(*command: str) -> str:
    """Run a command and return what it prints; if it fails, end this script with its message."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
