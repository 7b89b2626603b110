"""Every command that the README shows, typed in the small pipeline's repository in the README's order."""

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from helpers import ROOT
from helpers.small_pipeline import ENVIRONMENT, restore, run

from mnist_pipeline.serving import free_ports

COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture
def server() -> Iterator[dict[str, str]]:
    """What the README's plain `torchserve` needs to take free ports; one that is left running is stopped."""
    *http, inference, management = map(str, free_ports(5))
    ports = dict(zip(("8080", "8081", "8082"), http, strict=True))
    with tempfile.TemporaryDirectory(prefix="readme-") as folder:  # a short path: sockets allow 108 characters
        config = Path(folder) / "config.properties"
        settings = on(ports, (ROOT / "handlers/config.properties").read_text())
        config.write_text(f"{settings}grpc_inference_port={inference}\ngrpc_management_port={management}\n")
        environment = {"TS_CONFIG_FILE": str(config), "TEMP": folder}
        yield ports | environment
        run(ROOT, "torchserve", "--stop", **environment)


def test_every_command_of_the_readme_works(repository: Path, server: dict[str, str], tmp_path: Path) -> None:
    ports = {name: port for name, port in server.items() if name.isdecimal()}
    environment = {name: value for name, value in server.items() if not name.isdecimal()}
    said = {}
    restore(repository)  # whatever other tests did there
    for command in COMMANDS:
        if command.startswith("make "):
            run(repository, "make", "--dry-run", *command.split()[1:], "PYTHON=python3")
        elif command.startswith("optuna-dashboard "):
            assert "Optuna Dashboard" in page_of(command, repository)
        elif not command.startswith("source "):
            patient = command.replace("curl ", "curl --silent --retry 60 --retry-delay 1 --retry-all-errors ")
            printed = tmp_path / str(len(said))  # a file: the server that stays would hold a pipe open
            # What went wrong is printed as well.
            typed = f"{on(ports, patient)} >{printed} 2>&1 || {{ cat {printed}; exit 1; }}"
            run(repository, "bash", "-c", typed, **environment)
            said[command] = printed.read_text()
    info = json.loads((repository / "saved_models/model_info.json").read_text())
    restore(repository)

    assert "up to date" in said["dvc repro"]
    experiment = said["dvc exp run --set-param train.lr=0.001"]
    assert "Running stage 'train'" in experiment
    assert "Running stage 'tune'" not in experiment
    assert info["hyperparameters"]["lr"] == {"value": 0.001, "source": "params.yaml"}
    assert "accuracy" in said["dvc metrics diff"]
    page = (repository / "dvc_plots/index.html").read_text()
    assert all(title in page for title in ("Training loss", "Validation accuracy", "Confusion", "Reliability"))
    answer = json.loads(said["curl http://127.0.0.1:8080/predictions/mnist -T tests/images/seven.png"])
    assert answer["digit"] == 7
    assert answer["probabilities"][7] == answer["probability"]


def test_each_page_that_the_documentation_links_to_is_there() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_its_figures_are_those_of_the_committed_results() -> None:
    readme = (ROOT / "README.md").read_text()
    metrics = json.loads((ROOT / "results/evaluate/metrics.json").read_text())
    train, accuracy, default, long, serve = (
        json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text())
        for name in ("train", "accuracy", "accuracy-default", "accuracy-long", "serve")
    )
    for figure in (
        f"{100 * metrics['accuracy']:.2f} % (95 % interval {100 * metrics['accuracy_low']:.2f} to "
        f"{100 * metrics['accuracy_high']:.2f} %)",
        f"{metrics['errors']} mistakes in 10,000",
        f"{metrics['calibration_error']:.4f}",
        f"{100 * metrics['as_served']['accuracy']:.2f} %; "
        f"{100 * metrics['as_served']['within_0.001']:.1f} % of its answers",
        f"{100 * metrics['as_photographs']['accuracy']:.2f} %",
        f"{train['speedup']:.1f} times",
        f"without the early crop, {train['speedup_on_whole_images']:.1f} times",
        f"asks for {100 * train['fraction_of_limit']:.0f} % of the machine's matrix rate",
        f"really does {100 * train['executed_fraction_of_limit']:.0f} % of it",
        f"{accuracy['seconds_to_target']:.0f} s",
        *(over_seeds(recipe) for recipe in (accuracy, default, long)),
        f"{serve['speedup']:.1f} times",
        f"{serve['p50_ratio']:.2f} of",
        f"{serve['batch_images_per_second']:,} images/s",
        f"as `evaluate` said, to {serve['agreement_with_evaluation']['largest_difference']:.6f}",
    ):
        assert figure in readme, figure


def over_seeds(recipe: dict[str, Any]) -> str:
    """A recipe's accuracy, as README says it."""
    each = ", ".join(f"{100 * run['accuracy']:.2f}" for run in recipe["runs"])
    return f"mean {100 * recipe['accuracy_mean']:.2f} %, standard deviation {100 * recipe['accuracy_sd']:.2f} ({each})"


def test_the_recipe_for_those_with_more_time_is_the_one_that_is_measured() -> None:
    line = next(line for line in (ROOT / "docs/experiments.md").read_text().splitlines() if "train.epochs=" in line)
    documented = {name: yaml.safe_load(value) for name, value in re.findall(r"train\.(\w+)=(\S+)", line)}
    assert documented == yaml.safe_load((ROOT / "benchmarks/recipes.yaml").read_text())["long"]


def on(ports: dict[str, str], text: str) -> str:
    """A text with the usual ports replaced by free ones."""
    return re.sub("|".join(ports), lambda match: ports[match[0]], text)


def page_of(dashboard: str, folder: Path) -> str:
    """What a dashboard's address shows a browser."""
    (port,) = free_ports(1)
    process = subprocess.Popen([*dashboard.split(), "--port", str(port)], cwd=folder, env=ENVIRONMENT)
    try:
        for _ in range(200):
            try:
                return requests.get(f"http://127.0.0.1:{port}/dashboard/", timeout=5).text
            except requests.ConnectionError:
                time.sleep(0.1)
        raise TimeoutError(f"{dashboard} did not answer")
    finally:
        process.terminate()
        process.wait()
