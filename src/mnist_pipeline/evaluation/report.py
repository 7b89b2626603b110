"""Writes one self-contained HTML file about the model: python -m mnist_pipeline.evaluation.report --help

It is a model card (Mitchell et al., arXiv 1810.03993) with the figures and pictures that the stages wrote.
"""

import argparse
import base64
import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import yaml

from mnist_pipeline import console, files
from mnist_pipeline.console import PipelineError

log = logging.getLogger(__name__)


class ReportError(PipelineError):
    """A file that the report needs is missing or out of date; the message names the command that makes it."""


def write_report(project: Path, destination: Path) -> None:
    """Render the report on a project's saved_models/, results/ and dvc.lock.

    Raises ReportError where a file is missing, or the evaluation is of another model.
    """

    def read(file: str) -> bytes:
        try:
            return (project / file).read_bytes()
        except OSError:
            raise ReportError(f"{file} is missing; `dvc repro` makes it") from None

    def embed(file: str) -> str:
        """The address of a PNG that holds the picture itself."""
        return f"data:image/png;base64,{base64.b64encode(read(file)).decode()}"

    if not is_current(yaml.safe_load(read("dvc.lock"))["stages"]):
        raise ReportError("results/evaluate is of another model than saved_models; `dvc repro evaluate` fixes it")
    info = json.loads(read("saved_models/model_info.json"))
    duration = datetime.fromisoformat(info["ended"]) - datetime.fromisoformat(info["started"])
    page = load_template().render(
        info=info,
        study=json.loads(read("results/tune/study.json")),
        metrics=json.loads(read("results/evaluate/metrics.json")),
        details=json.loads(read("results/evaluate/details.json")),
        minutes=duration.total_seconds() / 60,
        embed=embed,
    )
    files.write_text(destination, page)
    log.info("Wrote %s, the report on %s, %.1f MB.", destination, info["weights"], len(page) / 1e6)


def is_current(stages: dict[str, Any]) -> bool:
    """Whether dvc.lock says that the evaluation is of the archive of the model in saved_models."""

    def find_hash(stage: str, kind: str, path: str) -> str | None:
        return next((entry["md5"] for entry in stages.get(stage, {}).get(kind, []) if entry["path"] == path), None)

    model, archive = "saved_models", "model_store/mnist.mar"
    is_archived = find_hash("train", "outs", model) == find_hash("archive", "deps", model)
    return is_archived and find_hash("archive", "outs", archive) == find_hash("evaluate", "deps", archive)


def load_template() -> jinja2.Template:
    """Load report.html; a name that it uses and `write_report` does not give is an error."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda fraction: f"{100 * fraction:.2f} %"
    return environment.get_template("report.html")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("results/report.html"), help="the file to write")
    write_report(Path(), parser.parse_args().to)


if __name__ == "__main__":
    console.run(main)
