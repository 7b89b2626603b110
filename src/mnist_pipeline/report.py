"""One self-contained HTML file about the model in saved_models/:  python -m mnist_pipeline.report --help

A model card (Mitchell et al., arXiv 1810.03993) with the pictures that the stages left, to read, print or send.
"""

import argparse
import base64
import csv
import io
import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import yaml
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from mnist_pipeline import console, evaluation, files
from mnist_pipeline.errors import PipelineError
from mnist_pipeline.pictures import ACCENT, class_labels

log = logging.getLogger(__name__)


class ReportError(PipelineError):
    """Something that the report tells of is missing or out of date; the message names the command that makes it."""


# The pictures: what leaves each, where, and what it shows to those who do not see it.
PICTURES = {
    "history": ("tune", "tune/history.png", "Validation accuracy of each trial, and the best so far"),
    "learning_curves": ("tune", "tune/learning_curves.png", "Validation accuracy at each report of each trial"),
    "importances": ("tune", "tune/importances.png", "Share of the variance that each hyperparameter explains"),
    "parallel_coordinates": ("tune", "tune/parallel_coordinates.png", "Each trial as a line through its values"),
    "confusion": ("evaluate", "evaluate/plots/confusion.png", "Actual classes against predicted ones"),
    "reliability": ("evaluate", "evaluate/plots/reliability.png", "Confidence against accuracy, before and after"),
    "mistakes": ("evaluate", "evaluate/plots/mistakes.png", "The most confident mistakes, answered and right class"),
    "photographs": ("evaluate", "evaluate/plots/photographs.png", "Photographs, and what the network saw of each"),
}


def write_report(model: Path, results: Path, benchmarks: Path, lock: Path, destination: Path) -> None:
    """Render the report.

    Args:
        model: what `train` left; the weights themselves are not read.
        results: what `tune`, `train` and `evaluate` left, each in its own folder.
        benchmarks: any *.json in it tells of speed; it may be missing.
        lock: dvc.lock.
        destination: the HTML file to write; it lands whole or not at all.

    Raises:
        ReportError: a file is missing, or the evaluation is of another model.
    """
    info = json.loads(text(model / "model_info.json", "train"))
    metrics = json.loads(text(results / "evaluate/metrics.json", "evaluate"))
    history = list(csv.DictReader(text(results / "train/history.csv", "train").splitlines()))
    study = json.loads(text(results / "tune/study.json", "tune"))
    stages = yaml.safe_load(text(lock, ""))["stages"]
    if digest(stages, "train", "outs", model.name) != digest(stages, "evaluate", "deps", model.name):
        raise ReportError(f"{results / 'evaluate'} is of another model than {model}; `dvc repro evaluate` mends it")

    absent = {"mistakes"} if not metrics["errors"] else set()
    absent |= {"photographs"} if "as_photographs" not in metrics else set()
    figures = {
        name: image(results / file, stage, shows)
        for name, (stage, file, shows) in PICTURES.items()
        if name not in absent
    }
    figures["curves"] = svg(training_curves(history), "Training loss and validation accuracy over the images seen")
    page = template().render(
        info=info,
        metrics=metrics,
        study=study,
        figures=figures,
        labels=class_labels(info["class_names"]),
        kinds=kinds(metrics),
        speed=[speed(path) for path in sorted(benchmarks.glob("*.json"))],
        outputs={out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])},
        minutes=(datetime.fromisoformat(info["ended"]) - datetime.fromisoformat(info["started"])).total_seconds() / 60,
    )
    files.write_text(destination, page)
    log.info("%s: the report on %s, %.1f MB.", destination, info["weights"], len(page) / 1e6)


def text(path: Path, stage: str) -> str:
    """A file's text. Raises ReportError with the command that makes it."""
    try:
        return path.read_text()
    except OSError:
        raise missing(path, stage) from None


def missing(path: Path, stage: str) -> ReportError:
    return ReportError(f"{path} is missing; `{f'dvc repro {stage}'.strip()}` makes it")


def digest(stages: dict[str, Any], stage: str, side: str, path: str) -> str | None:
    """The hash that dvc.lock has of a stage's dependency or output."""
    return next((entry["md5"] for entry in stages.get(stage, {}).get(side, []) if entry["path"] == path), None)


def image(path: Path, stage: str, shows: str) -> dict[str, str]:
    """A picture as the attributes of an <img>. Raises ReportError where it is missing."""
    if not path.exists():
        raise missing(path, stage)
    return {"src": inlined(path.read_bytes(), "image/png"), "alt": shows}


def svg(figure: Figure, shows: str) -> dict[str, str]:
    """A figure as the attributes of an <img>."""
    content = io.BytesIO()
    figure.savefig(content, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return {"src": inlined(content.getvalue(), "image/svg+xml"), "alt": shows}


def inlined(content: bytes, kind: str) -> str:
    """A data: URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def training_curves(history: list[dict[str, str]]) -> Figure:
    """Loss and validation accuracy over the training images seen."""
    images = [int(row["images"]) for row in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.9))
    left.plot(images, [float(row["loss"]) for row in history], color=ACCENT, marker="o", markersize=3)
    left.set(title="Training loss", xlabel="training images seen")
    accuracy = [float(row["validation_accuracy"]) for row in history]
    right.plot(images, accuracy, color=ACCENT, marker="o", markersize=3)
    right.set(title=f"Validation accuracy: {accuracy[-1]:.2%} at the end", xlabel="training images seen")
    right.yaxis.set_major_formatter(PercentFormatter(1))
    for axis in (left, right):
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.xaxis.set_major_locator(MaxNLocator(6))
    figure.tight_layout(w_pad=3)
    return figure


def kinds(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Accuracy with its interval for each kind of photograph, the hardest first."""
    rows = []
    for name, found in metrics.get("as_photographs", {}).get("by_kind", {}).items():
        count = found["photographs"]
        low, high = evaluation.interval(round(found["accuracy"] * count), count)
        rows.append({"name": name, **found, "accuracy_low": low, "accuracy_high": high})
    return sorted(rows, key=lambda row: row["accuracy"])


def speed(path: Path) -> dict[str, Any]:
    """A benchmark's figures by name, those one level down with the name that is above them, and its machine."""
    content = json.loads(path.read_text())
    machine = content.pop("machine", {})
    figures: dict[str, float] = {}
    for name, value in content.items():
        within = value.items() if isinstance(value, dict) else [("", value)]
        for detail, number in within:
            if isinstance(number, int | float) and not isinstance(number, bool):
                figures[f"{name}, {detail}".strip(", ").replace("_", " ")] = number
    return {"name": path.stem, "figures": figures, "machine": machine}


def template() -> jinja2.Template:
    """report.html, in which an unknown name is an error."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda share, digits=2: f"{100 * share:.{digits}f} %"
    environment.filters["short"] = lambda number: f"{number:,.0f}" if 1000 <= number < 1e9 else f"{number:.3g}"
    return environment.get_template("report.html")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("results/report.html"), help="the file to write")
    to = parser.parse_args().to
    write_report(Path("saved_models"), Path("results"), Path("benchmarks/results"), Path("dvc.lock"), to)


if __name__ == "__main__":
    console.run(main)
