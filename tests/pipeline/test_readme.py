"""Every command that the README shows, typed in the README's order in a clone with an empty cache."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from helpers import REFERENCE, ROOT
from helpers.small_pipeline import ENVIRONMENT, MAKE, run
from helpers.torchserve import bind_to_free_ports, free_ports
from requests.adapters import HTTPAdapter
from urllib3 import Retry

DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "pictures/README.md"]
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture(scope="module")
def clone(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as a newcomer has it after `make repro`, but for few images and a small budget."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("newcomer") / "clone"))
    for key in ("user.name", "user.email"):
        run(folder, "git", "config", "--unset", key)
    return folder


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, str]]]:
    """The address and the environment of the README's `torchserve` on free ports. It is stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="readme-") as folder:  # a short path: sockets allow 108 characters
        config = shutil.copy(ROOT / "handlers/config.properties", folder)
        service = bind_to_free_ports(Path(config))
        environment = {"TS_CONFIG_FILE": config, "TEMP": folder, "TMPDIR": folder}
        yield service.inference, environment
        run(ROOT, "torchserve", "--stop", environment=environment)


def test_before_the_commit_nothing_can_be_undone_and_nothing_is_touched(clone: Path) -> None:
    said = run(clone, "scripts/suggest_commit.sh")
    assert 'git config user.name "Your Name" && git config user.email you@example.org' in said
    assert 'git commit -am "My run"' in said
    model = weights_sha(clone)

    said = run(clone, *MAKE, "undo", fails=True)
    assert "Nothing was undone: DVC's cache does not hold" in said
    assert weights_sha(clone) == model

    # The way out that the message names: the run cache still has the run.
    (way_out,) = (line.strip() for line in said.splitlines() if "rm -f dvc.lock" in line)
    (clone / "dvc.lock").write_text(run(clone, "git", "show", "HEAD:dvc.lock"))
    run(clone, "bash", "-c", way_out)
    assert weights_sha(clone) == model


def test_every_command_of_the_readme_works(clone: Path, server: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    address, environment = server
    run(clone, "bash", "-c", 'git config user.name "Your Name" && git config user.email you@example.org')
    own = [clone / name for name in ("data/my_digits/7/7.png", "results/tune/notes.txt", "results/train/notes.txt")]
    for file in own:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    said: dict[str, str] = {}
    models: dict[str, str] = {}
    for command in COMMANDS:
        if command in ("make repro", "make undo"):
            said[command] = run(clone, *MAKE, command.split()[1])
        elif command.startswith("make "):
            run(clone, "make", "--dry-run", *command.split()[1:], "PYTHON=python3")
        elif command.startswith("optuna-dashboard "):
            assert "Optuna Dashboard" in page_of(command, clone)
        elif not command.startswith("source "):
            short = command.replace("train.epochs=4", "train.epochs=0.8")  # the small pipeline has 0.6
            short = short.replace("http://127.0.0.1:8080", address)
            printed = tmp_path / str(len(said))  # a file: the server that stays would hold a pipe open
            # What went wrong is printed as well.
            typed = f"{short} >'{printed}' 2>&1 || {{ cat '{printed}'; exit 1; }}"
            run(clone, "bash", "-c", typed, environment=environment)
            said[command] = printed.read_text()
        models[command] = weights_sha(clone)

    assert models["dvc exp run --set-param train.epochs=4"] != models["make repro"]
    assert "These changes of params.yaml are undone:\n  train.epochs: 0.6 -> 0.8\n" in said["make undo"]
    assert models["make undo"] == models["make repro"]
    assert [file.read_text() for file in own] == ["mine"] * len(own)
    assert "up to date" in said["dvc status"]
    experiment = said["dvc exp run --set-param train.lr=0.001"]
    assert re.findall("Running stage '(.*)'", experiment) == ["train", "archive", "evaluate"]
    info = json.loads((clone / "saved_models/model_info.json").read_text())
    assert info["hyperparameters"]["lr"] == {"value": 0.001, "source": "params.yaml"}
    assert "accuracy" in said["dvc metrics diff"]
    page = (clone / "dvc_plots/index.html").read_text()
    assert all(title in page for title in ("Training loss", "Validation accuracy", "Confusion", "Reliability"))
    curl = said["curl http://127.0.0.1:8080/predictions/mnist -T tests/images/seven.png"]
    answer = json.loads(curl[curl.index("{") :])  # below curl's progress
    assert answer["digit"] == 7
    assert answer["probabilities"][7] >= answer["probability"]  # which counts whether it is a digit


def test_its_lines_of_python_read_a_picture(clone: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert run(clone, "python", "-c", example).startswith("7 ")


def weights_sha(folder: Path) -> str:
    return str(json.loads((folder / "saved_models/model_info.json").read_text())["sha256"])


def test_each_page_that_the_documentation_links_to_is_there() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_its_accuracy_is_that_of_the_reference_run() -> None:
    accuracy = json.loads((REFERENCE / "metrics.json").read_text())["accuracy"]
    assert f"reads {100 * accuracy:.1f} % of the test images right" in (ROOT / "README.md").read_text()


def test_the_recipe_for_those_with_more_time_is_the_one_that_is_measured() -> None:
    text = (ROOT / "docs/experiments.md").read_text().replace("\\\n", "")  # a command may go on in the next line
    line = next(line for line in text.splitlines() if "train.crop=" in line)
    documented = {name: yaml.safe_load(value) for name, value in re.findall(r"train\.(\w+)=(\S+)", line)}
    assert documented == yaml.safe_load((ROOT / "benchmarks/recipes.yaml").read_text())["long"]


def page_of(dashboard: str, folder: Path) -> str:
    """What a dashboard's address shows a browser."""
    (port,) = free_ports(1)
    process = subprocess.Popen([*dashboard.split(), "--port", str(port)], cwd=folder, env=ENVIRONMENT)
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(connect=200, backoff_factor=0.1, backoff_max=0.5)))
    try:
        return session.get(f"http://127.0.0.1:{port}/dashboard/", timeout=5).text
    finally:
        process.terminate()
        process.wait()
