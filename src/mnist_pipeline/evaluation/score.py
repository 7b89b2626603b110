"""How well the archived model reads one's own pictures:  python -m mnist_pipeline.evaluation.score PICTURES

What a picture shows is the name of its sub-folder, or its file name up to the first `_`: `7_kitchen.jpg` is a 7,
`308_door.png` the number 308. Hidden files, what file managers leave (`Thumbs.db`), and texts (`labels.csv`) are no
pictures. A picture that is refused counts as a mistake. Writes score.json and, if there are any,
mistakes.png, which shows each mistake next to what the network saw.
"""

import argparse
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mnist_pipeline import console, files
from mnist_pipeline.console import PipelineError
from mnist_pipeline.evaluation.metrics import accuracy_with_interval
from mnist_pipeline.evaluation.pictures import Shown, contact_sheet, read_number
from mnist_pipeline.folders import is_note, natural_order, normalise_name, visible_files
from mnist_pipeline.serving.answer import Model
from mnist_pipeline.serving.archived import open_archive

log = logging.getLogger(__name__)


class ScoreError(PipelineError):
    """A folder without pictures, or whose names say nothing of what they show; the message says what would be right."""


@dataclass(frozen=True)
class Answer:
    """What was answered to a picture."""

    path: Path
    label: str  # what it shows
    answer: str  # "" if the picture was refused
    reason: str  # why it was refused, or ""
    seen: Sequence[np.ndarray]  # by the network, uint8 (h, w) or (C, S, S) each
    milliseconds: float


def score(archived: Path, pictures: Path, results_folder: Path) -> dict[str, Any]:
    """Read every picture of a folder, or of its sub-folders, through an archive; write score.json and mistakes.png.

    Returns the content of score.json. Raises ScoreError for the pictures and OpenError for the archive.
    """
    labels = label_pictures(pictures)
    with open_archive(archived) as (served, _):
        read(served, next(iter(labels)), "")  # the first call is the slowest
        answers = [read(served, path, label) for path, label in tqdm(labels.items(), desc="pictures", disable=None)]
    mistakes = [answer for answer in answers if answer.answer != answer.label]
    times = [answer.milliseconds for answer in answers]
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in sorted(answers, key=lambda answer: natural_order(answer.label)):
        groups[answer.label].append(answer)
    result = {
        **count(answers),
        "milliseconds_median": float(np.median(times)),
        "milliseconds_95_percent": float(np.quantile(times, 0.95)),
        "by_label": {label: count(group) for label, group in groups.items()},
        "mistakes": [
            {
                "picture": str(mistake.path.relative_to(pictures)),
                "label": mistake.label,
                "answer": mistake.answer or None,
                "reason": mistake.reason or None,
            }
            for mistake in mistakes
        ],
    }
    files.write_json(results_folder / "score.json", result)
    sheet = results_folder / "mistakes.png"
    sheet.unlink(missing_ok=True)
    if mistakes:
        with files.replacing(sheet) as unfinished:
            contact_sheet([show(mistake) for mistake in mistakes], columns=4).save(unfinished, "PNG")
    return result


def label_pictures(folder: Path) -> dict[Path, str]:
    """Each picture of a folder and what it shows, in natural order. Raises ScoreError."""
    if not folder.is_dir():
        raise ScoreError(f"{folder} is no folder; give one with pictures: make score PICTURES=folder")
    labels = {}
    for path in visible_files(folder):
        if is_note(path):
            continue
        name, *inside = path.relative_to(folder).parts
        before, underscore, _ = name.partition("_")
        label = normalise_name(name if inside else before if underscore else "")
        if not label:
            raise ScoreError(f"{path}: what does it show? Call it like 7_{path.name}, or put it in a folder 7")
        labels[path] = label
    if not labels:
        raise ScoreError(f"there are no pictures in {folder}")
    return labels


def read(served: Model, path: Path, label: str) -> Answer:
    """Read a picture as the server does, alone, and take the time."""
    content = path.read_bytes()
    start = time.perf_counter()
    ((found, reason),) = served.find([content])
    milliseconds = 1000 * (time.perf_counter() - start)
    answer = normalise_name(read_number(found, served.info["class_names"]))
    return Answer(path, label, answer, reason, [one.item.image for one in found], milliseconds)


def count(answers: Sequence[Answer]) -> dict[str, Any]:
    """How many answers there are, how many are right and how many refusals, with the interval of their share."""
    correct = torch.tensor([answer.answer == answer.label for answer in answers])
    return {
        **accuracy_with_interval(correct),
        "numbers_right": int(correct.sum()),
        "n": len(answers),
        "refused": sum(not answer.answer for answer in answers),
    }


def show(mistake: Answer) -> Shown:
    """A mistake on the contact sheet."""
    title = printable(f"{mistake.path.name[:28]}: {mistake.answer or 'refused'}")
    return Shown(mistake.path.read_bytes(), title, mistake.seen or mistake.reason)


def printable(text: str) -> str:
    """Put ? in place of the bytes of a file's name that are not UTF-8."""
    return text.encode(errors="replace").decode()


def describe(result: dict[str, Any]) -> str:
    """A table of the results: a line for each label, and one for all."""
    lines = ["label      n  right  refused  accuracy (95 % interval)"]
    for label, figures in [*result["by_label"].items(), ("all", result)]:
        name = printable(label if len(label) <= 6 else f"{label[:5]}…")
        accuracy, low, high = (100 * figures[key] for key in ("accuracy", "accuracy_low", "accuracy_high"))
        counts = f"{figures['n']:6}{figures['numbers_right']:7}{figures['refused']:9}"
        lines.append(f"{name:6}{counts}  {accuracy:6.2f} % ({low:.2f} to {high:.2f})")
    median, most = result["milliseconds_median"], result["milliseconds_95_percent"]
    lines.append(f"A picture takes {median:.1f} ms (median), {most:.1f} ms (95 %).")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="a folder of pictures")
    parser.add_argument("--archive", type=Path, default=Path("model_store/mnist.mar"), help="the model")
    parser.add_argument("--to", type=Path, default=Path("results/score"), help="the folder for the results")
    arguments = parser.parse_args()
    result = score(arguments.archive, arguments.pictures.expanduser(), arguments.to)
    print(describe(result))
    log.info("Wrote %s%s.", arguments.to / "score.json", " and mistakes.png" if result["mistakes"] else "")


if __name__ == "__main__":
    console.run(main)
