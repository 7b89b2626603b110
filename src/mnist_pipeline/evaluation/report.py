"""Writes one self-contained HTML file about the model: python -m mnist_pipeline.evaluation.report --help

It is a model card (Mitchell et al., arXiv 1810.03993) with the figures and pictures that the stages wrote.
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

from mnist_pipeline import console, files
from mnist_pipeline.console import PipelineError
from mnist_pipeline.figures import ACCENT, class_labels

log = logging.getLogger(__name__)


class ReportError(PipelineError):
    """A file that the report needs is missing or out of date; the message names the command that makes it."""


# The pictures of the report: name -> the stage that writes it, its file in results/, and its alternative text.
PICTURES = {
    "history": ("tune", "tune/history.png", "Validation accuracy of each trial, and the best so far"),
    "learning_curves": ("tune", "tune/learning_curves.png", "Validation accuracy at each evaluation of each trial"),
    "importances": ("tune", "tune/importances.png", "Share of the variance that each hyperparameter explains"),
    "confusion": ("evaluate", "evaluate/plots/confusion.png", "Actual classes against predicted ones"),
    "reliability": ("evaluate", "evaluate/plots/reliability.png", "Confidence against accuracy, before and after"),
    "mistakes": ("evaluate", "evaluate/plots/mistakes.png", "The most confident mistakes: predicted and actual class"),
}


def write_report(model: Path, results: Path, benchmarks: Path, lock: Path, destination: Path) -> None:
    """Render the report. Raises ReportError where a file is missing, or the evaluation is of another model."""
    info = json.loads(read(model / "model_info.json", "train"))
    metrics, details = (
        json.loads(read(results / f"evaluate/{name}.json", "evaluate")) for name in ("metrics", "details")
    )
    history = list(csv.DictReader(read(results / "train/history.csv", "train").decode().splitlines()))
    study = json.loads(read(results / "tune/study.json", "tune"))
    stages = yaml.safe_load(read(lock, ""))["stages"]
    if not is_current(stages, model.name):
        raise ReportError(f"{results / 'evaluate'} is of another model than {model}; `dvc repro evaluate` fixes it")
    page = load_template().render(
        info=info,
        metrics=metrics,
        details=details,
        study=study,
        figures=collect_figures(results, metrics, history),
        labels=class_labels(info["class_names"]),
        benchmarks=[read_benchmark(path) for path in sorted(benchmarks.glob("[!.]*.json"))],
        outputs={out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])},
        minutes=(datetime.fromisoformat(info["ended"]) - datetime.fromisoformat(info["started"])).total_seconds() / 60,
    )
    files.write_text(destination, page)
    log.info("Wrote %s, the report on %s, %.1f MB.", destination, info["weights"], len(page) / 1e6)


def collect_figures(results: Path, metrics: dict[str, Any], history: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    """Name -> attributes of an <img>, for each of PICTURES that there is, and the training curves."""
    figures = {
        name: embed(read(results / file, stage), "image/png", alternative_text)
        for name, (stage, file, alternative_text) in PICTURES.items()
        if name != "mistakes" or metrics["errors"]
    }
    curves = plot_training(history)
    return figures | {"curves": embed_figure(curves, "Training loss and validation accuracy over the images seen")}


def read(path: Path, stage: str) -> bytes:
    """Read a file that a stage wrote; "" means any stage. Raises ReportError if the file is missing."""
    try:
        return path.read_bytes()
    except OSError:
        raise ReportError(f"{path} is missing; `{f'dvc repro {stage}'.strip()}` makes it") from None


def is_current(stages: dict[str, Any], model: str) -> bool:
    """Whether dvc.lock says that the evaluation is of the archive of this model."""

    def find_hash(stage: str, kind: str, path: str) -> str | None:
        return next((entry["md5"] for entry in stages.get(stage, {}).get(kind, []) if entry["path"] == path), None)

    archived = "model_store/mnist.mar"
    packed = find_hash("train", "outs", model) == find_hash("archive", "deps", model)
    return packed and find_hash("archive", "outs", archived) == find_hash("evaluate", "deps", archived)


def embed_figure(figure: Figure, alternative_text: str) -> dict[str, str]:
    """Attributes of an <img> that holds a figure as SVG; the figure is closed."""
    content = io.BytesIO()
    figure.savefig(content, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return embed(content.getvalue(), "image/svg+xml", alternative_text)


def embed(picture: bytes, media_type: str, alternative_text: str) -> dict[str, str]:
    """Attributes of an <img> that holds an encoded picture itself."""
    return {"src": f"data:{media_type};base64,{base64.b64encode(picture).decode()}", "alt": alternative_text}


def plot_training(history: list[dict[str, str]]) -> Figure:
    """Plot loss and validation accuracy over the training images seen, from the rows of history.csv."""
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


def read_benchmark(path: Path) -> dict[str, Any]:
    """A benchmark's name, its numbers by name (a nested one is "object, number"), and the machine."""
    content = json.loads(path.read_text())
    machine = content.pop("machine", {})
    figures: dict[str, float] = {}
    for name, value in content.items():
        nested = value.items() if isinstance(value, dict) else [("", value)]
        for detail, number in nested:
            if isinstance(number, int | float) and not isinstance(number, bool):
                figures[f"{name}, {detail}".strip(", ").replace("_", " ")] = number
    return {"name": path.stem, "figures": figures, "machine": machine}


def load_template() -> jinja2.Template:
    """Load report.html; a name that it uses and `write_report` does not give is an error."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda fraction: f"{100 * fraction:.2f} %"
    environment.filters["short"] = lambda number: f"{number:,.0f}" if 1000 <= number < 1e9 else f"{number:.3g}"
    return environment.get_template("report.html")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("results/report.html"), help="the file to write")
    to = parser.parse_args().to
    write_report(Path("saved_models"), Path("results"), Path("benchmarks/results"), Path("dvc.lock"), to)


if __name__ == "__main__":
    console.run(main)
