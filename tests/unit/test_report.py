"""The report, of a model and results that the real functions make of a few digits."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import optuna
import pytest
import torch
import yaml

from mnist_pipeline import files
from mnist_pipeline.data.catalogue import DATASETS
from mnist_pipeline.data.dataset import Examples, load, load_test
from mnist_pipeline.evaluation import evaluate, report
from mnist_pipeline.evaluation.metrics import accuracy_with_interval, measure, measure_classes
from mnist_pipeline.training import model
from mnist_pipeline.training.train import train
from mnist_pipeline.tuning import plots

FEW = 200


@pytest.fixture(scope="module")
def made(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the report reads."""
    folder = tmp_path_factory.mktemp("made")
    whole, test = load(mnist, 100, 0), load_test(mnist)
    train(
        replace(whole, train=Examples(whole.train.images[:64], whole.train.labels[:64])),
        {"batch_size": 8, "epochs": 0.0064},
        {"lr": 0.00125},
        seed=0,
        checkpoint_folder=folder / "checkpoints",
        checkpoint_seconds=0.0,
        model_folder=folder / "saved_models",
        results_folder=folder / "results/train",
    )
    _, info = model.load_model(folder / "saved_models")
    # Answers of which a tenth is wrong: what the network has learned in two steps would make a dull report.
    test = Examples(test.images[:FEW], test.labels[:FEW])
    logits = 4 * torch.nn.functional.one_hot((test.labels + (torch.arange(FEW) % 10 == 0)) % 10, 10).float()
    evaluated = folder / "results/evaluate"
    files.write_json(evaluated / "metrics.json", measure(logits, test.labels, info["temperature"]))
    details = {
        "images": FEW,
        "weights": accuracy_with_interval(torch.arange(FEW) < FEW - 1),
        "as_files": accuracy_with_interval(torch.arange(FEW) < FEW - 4) | {"refused": 3},
        "per_class": measure_classes(logits, test.labels, info["class_names"]),
    }
    files.write_json(evaluated / "details.json", details)
    evaluate.draw(evaluated / "plots", logits, test, info["temperature"], info["class_names"], 5)
    draw_study(folder / "results/tune")
    write_lock(folder, evaluated="5678")
    figures = {"images_per_second": {"baseline": 68.94, "this_project": 309.2}, "n": 3, "turns": [1, 2]}
    machine = {"processor": "A processor", "cores": 2, "gpu": None, "torch": "2.14.1"}
    files.write_json(folder / "benchmarks/results/train.json", figures | {"machine": machine})
    return folder


def draw_study(folder: Path) -> None:
    """A study of a simple function, drawn as `tune` draws its own."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))

    def objective(trial: optuna.Trial) -> float:
        value = 1 - trial.suggest_float("lr", 0.001, 0.1, log=True)
        trial.report(value - 0.01, 1)
        trial.report(value, 2)
        return value

    study.optimize(objective, n_trials=3)
    plots.draw(folder, study, optuna.create_study(), study.best_trial)
    summary = {"finished": 3, "complete": 3, "pruned": 0, "failed": 0}
    best = {"best_trial": study.best_trial.number, "best_value": study.best_value}
    chosen = {"chosen_trial": study.trials[0].number, "chosen_value": study.trials[0].value}
    files.write_json(
        folder / "study.json", {"study": "a study", "reason": "It is the best.", **summary, **best, **chosen}
    )


def write_lock(folder: Path, evaluated: str) -> None:
    """A dvc.lock: the model's hash is 1234.dir, its archive's 5678, and the evaluation is of the given archive."""
    archived = "model_store/mnist.mar"
    stages = {
        "train": {"outs": [{"path": "saved_models", "md5": "1234.dir"}]},
        "archive": {
            "deps": [{"path": "saved_models", "md5": "1234.dir"}],
            "outs": [{"path": archived, "md5": "5678"}],
        },
        "evaluate": {"deps": [{"path": archived, "md5": evaluated}]},
    }
    files.write_text(folder / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": stages}))


def render(folder: Path) -> str:
    target = folder / "results/report.html"
    report.write_report(
        folder / "saved_models", folder / "results", folder / "benchmarks/results", folder / "dvc.lock", target
    )
    return target.read_text()


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The folder without the weights, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "made", ignore=shutil.ignore_patterns("*.pth", "report.html")))


class Page(HTMLParser):
    """A page's open tags, its addresses and its text; a tag that closes another one fails."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.pieces: list[str] = []
        self.pictures = 0
        self.feed(html)
        self.text = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]
        self.pictures += tag == "img" and bool(dict(attributes)["alt"])
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.pieces.append(text)


def test_tells_all_of_the_model_in_one_file(made: Path) -> None:
    page = Page(render(made))
    assert page.open == []
    assert page.pictures == 7
    assert all(address.startswith("data:") for address in page.addresses)
    info = json.loads((made / "saved_models/model_info.json").read_text())
    figures = accuracy_with_interval(torch.arange(FEW) < 180)
    low, high = figures["accuracy_low"], figures["accuracy_high"]
    for told in (
        info["weights"],
        info["sha256"],
        "20 in 200 test images",
        f"200 test images 90.00 % ({100 * low:.2f} to {100 * high:.2f} %)",
        "the trained weights, in fp32 99.50 %",
        "as a user would; 3 are refused 98.00 %",
        "lr 0.00125 the study",
        "batch_size 8 params.yaml",
        "weight_decay 0.001 default for sgd",
        f"rotation {DATASETS['MNIST'].hyperparameters['rotation']} default for MNIST",
        "conv3_2 convolution 512 × 7 × 7",  # noqa: RUF001
        "3 trials: 3 complete, 0 pruned early.",
        "images per second, this project 309",
        "A processor, 2 cores; torch 2.14.1",
        "saved_models 1234.dir",
    ):
        assert told in page.text


def test_leaves_out_what_there_is_not(copy: Path) -> None:
    for name, changes in {"metrics": {"errors": 0}, "details": {"as_files": None}}.items():
        path = copy / f"results/evaluate/{name}.json"
        content = json.loads(path.read_text()) | changes
        files.write_json(path, {key: value for key, value in content.items() if value is not None})
    shutil.rmtree(copy / "benchmarks")
    (copy / "results/evaluate/plots/mistakes.png").unlink()
    page = Page(render(copy))
    assert page.pictures == 6
    assert "Benchmarks" not in {piece.strip() for piece in page.pieces}
    assert "as a user would" not in page.text


def test_a_name_with_markup_is_shown_as_it_is(copy: Path) -> None:
    path = copy / "saved_models/model_info.json"
    info = json.loads(path.read_text())
    files.write_json(path, info | {"class_names": ["<b>bold", *info["class_names"][1:]]})
    path = copy / "results/evaluate/details.json"
    details = json.loads(path.read_text())
    names = ["<b>bold", "items", "a.b", "&amp;", "#x", '"', "$1$", "{{ 1 }}", "8", "9"]
    per_class = dict(zip(names, details["per_class"].values(), strict=True))
    files.write_json(path, details | {"per_class": per_class})
    text = Page(render(copy)).text
    assert "into 10 classes: <b>bold, 1, 2" in text
    for name, figures in per_class.items():
        assert f" {name} {100 * figures['precision']:.2f} % {100 * figures['recall']:.2f} %" in text


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("results/train/history.csv", "dvc repro train"),
        ("results/tune/study.json", "dvc repro tune"),
        ("results/tune/history.png", "dvc repro tune"),
        ("results/evaluate/plots/confusion.png", "dvc repro evaluate"),
        ("dvc.lock", "dvc repro"),
    ],
)
def test_names_what_is_missing_and_the_command_that_makes_it(copy: Path, file: str, command: str) -> None:
    (copy / file).unlink()
    with pytest.raises(report.ReportError, match=f"{re.escape(file)} is missing; `{command}` makes it"):
        render(copy)
    assert not (copy / "results/report.html").exists()


def test_an_evaluation_of_another_model_is_refused(copy: Path) -> None:
    write_lock(copy, evaluated="5678.dir")
    with pytest.raises(report.ReportError, match=r"is of another model than .*; `dvc repro evaluate` fixes it"):
        render(copy)
