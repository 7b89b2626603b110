"""Groups of experiments that differ only in their seeds, compared by validation accuracy: rows, a table, a picture."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from scipy.special import stdtrit

from mnist_pipeline import figures

SEEDS = ("train.seed", "tune.seed", "data.seed")
DATA = ("data.dataset", "data.source")  # datasets differ in difficulty, so accuracies are compared within one

Settings = dict[str, str]  # dotted key -> value
Values = tuple[str, ...]  # of some settings
Row = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """An experiment: its metrics if it is done; if it is not, its state (queued, running, failed) and the reason."""

    name: str
    settings: Settings
    metrics: dict[str, float]
    state: str = ""
    reason: str = ""


Group = dict[Values, Experiment]  # by the values of the seeds


def compare(runs: Sequence[Experiment], commit: Settings, baseline: Settings) -> tuple[list[str], list[Row]]:
    """Compute a row of figures for each group of experiments that differ only in their seeds.

    The experiments are done, the oldest first; of two with equal settings and seeds the later one counts. Returns the
    names of the settings in which they differ from the commit, and the rows, the best validation accuracy of each
    dataset first. Accuracies are 0 to 1. A figure that does not exist, such as the interval of one difference, is None.
    """
    keys = dict.fromkeys([*commit, *(key for run in runs for key in run.settings)])
    varied = [key for key in keys if key not in SEEDS and {run.settings.get(key) for run in runs} - {commit.get(key)}]
    groups: dict[Values, Group] = defaultdict(dict)
    for run in runs:
        groups[pick(run.settings, varied)][pick(run.settings, SEEDS)] = run
    rows: list[Row] = []
    for values, group in groups.items():
        names = dict(zip(varied, values, strict=True))
        compared = pick(baseline | {key: names[key] for key in DATA if key in names}, varied)
        is_baseline = compared == values
        figures_of_group = summarise(group, {} if is_baseline else groups.get(compared, {}))
        rows.append(names | figures_of_group | {"is_baseline": is_baseline})
    rows.sort(key=lambda row: ([row.get(key, "") for key in DATA], -row["validation_accuracy"]))
    return varied, rows


def pick(settings: Settings, keys: Sequence[str]) -> Values:
    """Values of some settings."""
    return tuple(settings.get(key, "absent") for key in keys)


def summarise(group: Group, baseline: Group) -> Row:
    """Compute the figures of a group, and its difference from the baseline, which is taken seed by seed."""
    accuracies = [run.metrics["validation_accuracy"] for run in group.values()]
    differences = [
        run.metrics["validation_accuracy"] - baseline[seeds].metrics["validation_accuracy"]
        for seeds, run in group.items()
        if seeds in baseline
    ]
    mean, low, high = mean_with_interval(differences)
    row: Row = {
        "n": len(group),
        "validation_accuracy": float(np.mean(accuracies)),
        "validation_accuracy_sd": float(np.std(accuracies, ddof=1)) if len(group) > 1 else None,
        "pairs": len(differences),
        "difference": mean,
        "difference_low": low,
        "difference_high": high,
    }
    for metric in ("accuracy", "training_seconds"):  # commits of older code have no training_seconds
        known = [run.metrics[metric] for run in group.values() if metric in run.metrics]
        row[metric] = float(np.mean(known)) if known else None
    return row


def mean_with_interval(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Mean of some values and its 95 % interval by Student's t; None for what too few values do not give."""
    if len(values) < 2:
        return (values[0] if values else None), None, None
    mean = float(np.mean(values))
    half = float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def tabulate(varied: Sequence[str], rows: Sequence[Row]) -> str:
    """Align the rows as a text: accuracies in %, differences in points, settings on the left."""
    lines = [(*varied, "n", "validation %", "sd", "test %", "seconds", "difference, points (95 % interval)")]
    for row in rows:
        accuracies = ("validation_accuracy", "validation_accuracy_sd", "accuracy")
        percent = ["" if row[key] is None else f"{100 * row[key]:.2f}" for key in accuracies]
        seconds = "" if row["training_seconds"] is None else f"{row['training_seconds']:.0f}"
        lines.append((*pick(row, varied), str(row["n"]), *percent, seconds, describe_difference(row)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = ["<"] * len(varied) + [">"] * 5 + ["<"]
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)).rstrip()
        for line in lines
    )


def describe_difference(row: Row) -> str:
    """Write a row's difference from the baseline in points, its interval, and of how many seeds they are."""
    if row["is_baseline"]:
        return "baseline"
    if not row["pairs"]:
        return "no seed in common with the baseline"
    if row["pairs"] == 1:
        return f"{100 * row['difference']:+z.2f}, one seed"
    low, high = 100 * row["difference_low"], 100 * row["difference_high"]
    return f"{100 * row['difference']:+z.2f} ({low:+z.2f} to {high:+z.2f}), {row['pairs']} seeds"


def draw(file: Path, varied: Sequence[str], rows: Sequence[Row]) -> None:
    """Draw each group's difference from the baseline with its interval, a panel for each dataset."""
    panels: dict[Values, list[Row]] = defaultdict(list)
    for row in rows:
        panels[pick(row, [key for key in varied if key in DATA])].append(row)
    names = [key for key in varied if key not in DATA]
    figure, axes = plt.subplots(
        len(panels),
        squeeze=False,
        figsize=(7, 0.7 * len(panels) + 0.28 * len(rows) + 0.5),
        height_ratios=[len(panel) + 1.5 for panel in panels.values()],
        layout="constrained",
    )
    for axis, (data, panel) in zip(axes[:, 0], panels.items(), strict=True):
        for height, row in enumerate(panel):
            if row["is_baseline"]:
                axis.plot(0, height, "D", color=figures.INK)
            elif row["pairs"]:
                half = 100 * (row["difference_high"] - row["difference"]) if row["pairs"] > 1 else None
                axis.errorbar(100 * row["difference"], height, xerr=half, fmt="o", color=figures.ACCENT)
        axis.axvline(0, color=figures.INK, linewidth=1)
        labels = [", ".join(f"{name}={row[name]}" for name in names) or "as committed" for row in panel]
        axis.set_yticks(range(len(panel)), labels)
        axis.set(title=", ".join(data), ylim=(len(panel) - 0.25, -0.75))
    axes[-1, 0].set_xlabel("validation accuracy less the baseline's, points; 95 % interval")
    figures.save(figure, file)
