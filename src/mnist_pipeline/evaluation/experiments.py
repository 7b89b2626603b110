"""A table of the last commit's experiments:  python -m mnist_pipeline.evaluation.experiments  (make table)

Experiments that differ only in their seeds are one group, a line of the table. The difference of a group's validation
accuracy from the baseline's is taken between experiments of the same seeds and of the same dataset. The baseline is
the settings of the last commit; --baseline NAME takes those of an experiment. Writes experiments.csv and
experiments.png.
"""

import argparse
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from mnist_pipeline import console, files
from mnist_pipeline.console import PipelineError
from mnist_pipeline.evaluation.comparison import Experiment, Settings, compare, draw, tabulate

log = logging.getLogger(__name__)


class ExperimentsError(PipelineError):
    """There is no git or DVC repository, no experiment, or none of this name; the message says which."""


def read_experiments() -> tuple[Experiment, list[Experiment]]:
    """Read the last commit and its experiments, the oldest first, from DVC. Raises ExperimentsError.

    `dvc.api.exp_show()` returns null as a text and 0 as 0.0, and has neither logs nor processes.
    """
    done = subprocess.run([sys.executable, "-m", "dvc", "exp", "show", "--json"], capture_output=True, text=True)
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "ERROR: " in line), "`dvc exp show` failed")
        if "/exps/run/" in said:
            said += "; an experiment was killed as it began, `make requeue` queues it again"
        raise ExperimentsError(said.removeprefix("ERROR: "))
    shown = json.loads(done.stdout)
    found = shown[-1].get("experiments") if shown else None
    if not found:
        raise ExperimentsError("the last commit has no experiments; docs/experiments.md says how to queue some")
    commit = read_experiment(shown[-1] | {"name": f"commit {shown[-1]['rev'][:7]}"}, {})
    experiments = [read_experiment(each["revs"][0], each["executor"] or {}) for each in reversed(found)]
    return commit if is_run(commit) else replace(commit, metrics={}), experiments


def read_experiment(shown: dict[str, Any], executor: dict[str, Any]) -> Experiment:
    """Read an experiment from what `dvc exp show --json` says of it and of the process that runs it."""
    data = shown["data"] or {}
    settings = dict(flatten(data.get("params", {}).get("params.yaml", {}).get("data") or {}))
    name, state = shown["name"] or shown["rev"][:7], executor.get("state") or "success"
    if state != "success":  # what metrics it shows are the commit's
        return Experiment(name, settings, {}, state, explain(state, executor.get("local") or {}, settings))
    metrics: dict[str, float] = {}
    for file in data.get("metrics", {}).values():
        metrics |= file.get("data") or {}
    return Experiment(name, settings, metrics, "" if "validation_accuracy" in metrics else "without metrics")


def flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting's dotted key, such as train.lr, and its value as YAML writes it, 4.0 as 4."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            value = int(value) if isinstance(value, float) and value.is_integer() else value
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)


def is_run(commit: Experiment) -> bool:
    """Tell whether the commit's metrics belong to its params.yaml, which may have changed since the run."""
    shown = subprocess.run(["git", "show", "HEAD:./dvc.lock"], capture_output=True, text=True)
    stages = (yaml.safe_load(shown.stdout) or {}).get("stages", {}).values()
    used = [item for stage in stages for item in flatten(stage.get("params", {}).get("params.yaml", {}))]
    return bool(used) and all(commit.settings.get(key) == value for key, value in used)


def is_running(pid: int, word: str) -> bool:
    """Tell whether the process of this number has a word in its command line: numbers are used again."""
    try:
        return word in Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:  # it has ended
        return False


def explain(state: str, process: dict[str, Any], settings: Settings) -> str:
    """Say why an experiment failed, or that the process of a running one is gone; "" where there is nothing to say."""
    if state == "running" and process.get("pid"):
        return "" if is_running(process["pid"], process["task_id"]) else "its process is gone: make requeue"
    text = Path(process.get("log") or "")
    if state != "failed" or not text.is_file():
        return ""
    errors = re.findall(r"^\w*(?:Error|ERROR): .*", text.read_text(errors="replace"), re.MULTILINE)
    reasons = [line for line in errors if ", exited with " not in line] or errors or ["it was killed: make requeue"]
    source = settings.get("data.source", "")
    if not source.startswith("/") and reasons[-1].endswith(f"/{source}'"):
        return f"data.source={source} is not in git: git add it and commit, or give its absolute path; queue it again"
    return reasons[-1].removeprefix("ERROR: ")


def choose_baseline(commit: Experiment, experiments: Sequence[Experiment], name: str) -> Settings:
    """Settings of the experiment of this name, or of the commit if the name is empty. Raises ExperimentsError."""
    if not name:
        return commit.settings
    for experiment in experiments:
        if experiment.name == name:
            return experiment.settings
    raise ExperimentsError(f"no experiment of the last commit is called {name}; `dvc exp show` lists them")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", default="", help="the experiment whose settings are the baseline")
    parser.add_argument("--to", type=Path, default=Path("results"), help="the folder for the results")
    arguments = parser.parse_args()
    commit, experiments = read_experiments()
    baseline = choose_baseline(commit, experiments, arguments.baseline)
    done = [each for each in (commit, *experiments) if each.metrics and not each.state]
    varied, rows = compare(done, commit.settings, baseline)
    if rows:
        print(tabulate(varied, rows))
        files.write_csv(arguments.to / "experiments.csv", rows)
        draw(arguments.to / "experiments.png", varied, rows)
        log.info("Wrote %s and experiments.png.", arguments.to / "experiments.csv")
    for each in experiments:
        if each.state:
            print(f"{each.name}: {each.state}, {each.reason}".removesuffix(", "))


if __name__ == "__main__":
    console.run(main)
