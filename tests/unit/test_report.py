"""The report, of a model and results that the real functions make of a few digits."""

import json
import re
import shutil
from dataclasses import replace
from html import unescape
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
from mnist_pipeline.training.train import train
from mnist_pipeline.tuning import plots

FEW = 200
NAMES = ["<b>bold", "&amp;", '"', "$1$", "{{ 1 }}", *"56789"]


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
    info = json.loads((folder / "saved_models/model_info.json").read_text())
    files.write_json(folder / "saved_models/model_info.json", info | {"class_names": NAMES})
    # Answers of which a tenth is wrong: what the network has learned in two steps would make a dull report.
    test = Examples(test.images[:FEW], test.labels[:FEW])
    logits = 4 * torch.nn.functional.one_hot((test.labels + (torch.arange(FEW) % 10 == 0)) % 10, 10).float()
    evaluated = folder / "results/evaluate"
    files.write_json(evaluated / "metrics.json", measure(logits, test.labels, info["temperature"]))
    details = {
        "images": FEW,
        "weights": accuracy_with_interval(torch.arange(FEW) < FEW - 1),
        "as_files": accuracy_with_interval(torch.arange(FEW) < FEW - 4) | {"refused": 3},
        "per_class": measure_classes(logits, test.labels, NAMES),
    }
    files.write_json(evaluated / "details.json", details)
    evaluate.draw(evaluated / "plots", logits, test, info["temperature"], NAMES, 5)
    draw_study(folder / "results/tune")
    write_lock(folder, evaluated="5678")
    return folder


def draw_study(folder: Path) -> None:
    """A study of a simple function, drawn as `tune` draws its own."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))

    def objective(trial: optuna.Trial) -> float:
        value = 1 - trial.suggest_float("lr", 0.001, 0.1, log=True)
        trial.report(value, 1)
        return value

    study.optimize(objective, n_trials=3)
    plots.draw(folder, study, optuna.create_study(), study.best_trial)
    summary = {"finished": 3, "complete": 3, "pruned": 0, "failed": 0, "reason": "It is the best."}
    best = {"best_trial": study.best_trial.number, "best_value": study.best_value}
    files.write_json(folder / "study.json", summary | best)


def write_lock(folder: Path, evaluated: str) -> None:
    """A dvc.lock: the model's hash is 1234.dir, its archive's 5678, and the evaluation is of the given archive."""
    model, archive = {"path": "saved_models", "md5": "1234.dir"}, {"path": "model_store/mnist.mar", "md5": "5678"}
    stages = {
        "train": {"outs": [model]},
        "archive": {"deps": [model], "outs": [archive]},
        "evaluate": {"deps": [archive | {"md5": evaluated}]},
    }
    files.write_text(folder / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The folder without the weights, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "made", ignore=shutil.ignore_patterns("*.pth", "report.html")))


def render(folder: Path) -> str:
    """The report of a folder."""
    report.write_report(folder, folder / "results/report.html")
    return (folder / "results/report.html").read_text()


def text_of(page: str) -> str:
    """The text that a page shows."""
    return " ".join(unescape(re.sub("<style>.*</style>|<[^>]+>", " ", page, flags=re.DOTALL)).split())


def test_tells_all_of_the_model_in_one_file(made: Path) -> None:
    page = render(made)
    text = text_of(page)
    assert page.count('<img src="data:image/png;base64,') == 6
    assert all(address.startswith("data:") for address in re.findall('(?:src|href)="([^"]*)"', page))
    info = json.loads((made / "saved_models/model_info.json").read_text())
    figures = accuracy_with_interval(torch.arange(FEW) < 180)
    low, high = figures["accuracy_low"], figures["accuracy_high"]
    for told in (
        info["weights"],
        info["sha256"],
        "into 10 classes: <b>bold, &amp;,",
        "20 in 200 test images",
        f"200 test images 90.00 % ({100 * low:.2f} to {100 * high:.2f} %)",
        "the trained weights, in fp32 99.50 %",
        "as a user would; 3 are refused 98.00 %",
        "lr 0.00125 the study",
        "batch_size 8 params.yaml",
        "weight_decay 0.001 default for sgd",
        f"rotation {DATASETS['MNIST'].hyperparameters['rotation']} default for MNIST",
        "3 trials: 3 complete, 0 pruned early.",
    ):
        assert told in text
    details = json.loads((made / "results/evaluate/details.json").read_text())
    for name, found in details["per_class"].items():
        assert f" {name} {100 * found['precision']:.2f} % {100 * found['recall']:.2f} %" in text


@pytest.mark.parametrize("file", ["results/tune/study.json", "results/evaluate/plots/confusion.png", "dvc.lock"])
def test_names_what_is_missing_and_the_command_that_makes_it(copy: Path, file: str) -> None:
    (copy / file).unlink()
    with pytest.raises(report.ReportError, match=f"{re.escape(file)} is missing; `dvc repro` makes it"):
        render(copy)
    assert not (copy / "results/report.html").exists()


def test_an_evaluation_of_another_model_is_refused(copy: Path) -> None:
    write_lock(copy, evaluated="5678.dir")
    with pytest.raises(report.ReportError, match=r"is of another model than .*; `dvc repro evaluate` fixes it"):
        render(copy)
