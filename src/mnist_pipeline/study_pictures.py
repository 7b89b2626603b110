"""What a study found, as pictures: the search over time, what mattered, where good values lie, how trials learned."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from optuna.distributions import CategoricalDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from mnist_pipeline.pictures import ACCENT, INK, SOFT, save

PALE = "#B0B0B0"
LABEL = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
TICKS = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)


def draw(folder: Path, study: optuna.Study, trials: Sequence[FrozenTrial], best: FrozenTrial) -> None:
    """Write history.png, importances.png, parallel_coordinates.png and learning_curves.png.

    Args:
        folder: gets the pictures.
        study: whose trials they are.
        trials: complete and pruned ones, by number.
        best: the best of them.
    """
    history(folder / "history.png", trials, best)
    importances(folder / "importances.png", study)
    parallel_coordinates(folder / "parallel_coordinates.png", trials, best)
    learning_curves(folder / "learning_curves.png", trials, best)


def nines(accuracy: Any) -> Any:
    """A number or an array on a scale on which 90 and 99 % lie as far apart as 99 and 99.9 %."""
    return -np.log10(np.maximum(1.0001 - accuracy, 1e-6))  # axes ask for a little more than 1 too


def from_nines(scaled: Any) -> Any:
    """The inverse of `nines`."""
    return 1.0001 - 10**-scaled


SCALE = (nines, from_nines)
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:g}%")


def accuracy_axis(axis: Axes, values: Sequence[float]) -> None:
    """Make an axis that holds these accuracies, and tells good from very good."""
    axis.set_yscale("function", functions=SCALE)
    axis.set_ylim(*(from_nines(nines(value) + room) for value, room in ((min(values), -0.1), (max(values), 0.25))))
    axis.yaxis.set_major_locator(FixedLocator(TICKS))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(PERCENT)
    axis.set_ylabel("validation accuracy")


def history(path: Path, trials: Sequence[FrozenTrial], best: FrozenTrial) -> None:
    """Every trial's value, and the best so far."""
    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    complete = {trial.number: trial.value or 0.0 for trial in trials if trial.state == TrialState.COMPLETE}
    pruned = {
        trial.number: trial.intermediate_values[trial.last_step]
        for trial in trials
        if trial.state == TrialState.PRUNED and trial.last_step is not None
    }
    so_far = np.maximum.accumulate([*complete.values(), 0.0])
    axis.step([*complete, trials[-1].number], so_far, where="post", color=ACCENT, label="best so far")
    axis.scatter([*complete], [*complete.values()], color=ACCENT, s=28, zorder=3, label="complete")
    axis.scatter([*pruned], [*pruned.values()], color=SOFT, marker="x", s=28, zorder=3, label="pruned, last report")
    axis.set(xlabel="trial", title=f"Best: trial {best.number} with {best.value:.2%}")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    accuracy_axis(axis, [*complete.values(), *pruned.values()])
    axis.legend(frameon=False, fontsize=8)
    save(figure, path)


def importances(path: Path, study: optuna.Study) -> None:
    """The share of the values' variance that each hyperparameter explains (fANOVA, Hutter et al., 2014)."""
    figure, axis = plt.subplots(figsize=(6.4, 2.6))
    try:
        with warnings.catch_warnings(action="ignore"):
            shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    except (ValueError, RuntimeError):  # Optuna's words for too few complete trials, or all of one value
        shares = {}
    names = list(reversed(shares))
    bars = axis.barh(names, [shares[name] for name in names], color=ACCENT, height=0.6)
    axis.bar_label(bars, [f"{shares[name]:.0%}" for name in names], padding=4, color=INK)
    axis.set(xlim=(0, 1.1), xticks=[], title="Share of the variance that a hyperparameter explains")
    axis.spines["bottom"].set_visible(False)
    axis.grid(False)
    if not shares:
        axis.set_yticks([])
        axis.text(0.02, 0.5, "Too few different complete trials to tell.", transform=axis.transAxes)
    save(figure, path)


def parallel_coordinates(path: Path, trials: Sequence[FrozenTrial], best: FrozenTrial) -> None:
    """A line for each complete trial through its values, coloured by its accuracy; pruned ones are pale."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    figure, axis = plt.subplots(figsize=(1.7 * len(names) + 2.2, 3.8))
    complete = [trial.value or 0.0 for trial in trials if trial.state == TrialState.COMPLETE]
    colours = ScalarMappable(FuncNorm(SCALE, min(*complete, max(complete) - 1e-3), max(complete)), "viridis_r")
    places = {name: positions(name, trials) for name in names}
    for trial in sorted(trials, key=lambda trial: (trial.state == TrialState.COMPLETE, trial.value or 0)):
        heights = [places[name].get(trial.number, np.nan) for name in names]
        colour = PALE if trial.state == TrialState.PRUNED else colours.to_rgba(np.array(trial.value))
        width = 3.0 if trial.number == best.number else 1.2 if colour != PALE else 0.8
        axis.plot(range(len(names)), heights, marker="o", markersize=3, color=colour, linewidth=width)
    for place, name in enumerate(names):
        axis.axvline(place, color=INK, linewidth=0.8)
        for height, text in labels(name, trials):
            axis.annotate(
                text, (place, height), (4, 0), textcoords="offset points", fontsize=8, va="center", bbox=LABEL
            )
    axis.set(
        xlim=(-0.2, len(names) - 0.4),
        ylim=(-0.06, 1.06),
        yticks=[],
        title=f"Bold: the best, trial {best.number}. Pale: pruned",
    )
    axis.set_xticks(range(len(names)), names)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.grid(False)
    bar = figure.colorbar(colours, ax=axis, pad=0.02, format=PERCENT, label="validation accuracy")
    bar.outline.set_visible(False)
    inside = [tick for tick in TICKS if min(complete) <= tick <= max(complete)]
    bar.locator = FixedLocator(inside if len(inside) > 1 else sorted({min(complete), max(complete)}))
    bar.minorlocator = NullLocator()
    bar.update_ticks()
    save(figure, path)


def positions(name: str, trials: Sequence[FrozenTrial]) -> dict[int, float]:
    """By trial number, a parameter's value as a height, 0..1."""
    asked = [trial for trial in trials if name in trial.params]
    distribution = asked[0].distributions[name]
    if isinstance(distribution, CategoricalDistribution):
        top = max(1, len(distribution.choices) - 1)
        return {trial.number: distribution.choices.index(trial.params[name]) / top for trial in asked}
    scale: Callable[[float], float] = np.log if distribution.log else float  # type: ignore[attr-defined]
    low, high = scale(distribution.low), scale(distribution.high)  # type: ignore[attr-defined]
    return {trial.number: (scale(trial.params[name]) - low) / ((high - low) or 1) for trial in asked}


def labels(name: str, trials: Sequence[FrozenTrial]) -> list[tuple[float, str]]:
    """The texts along a parameter's line: each choice, or the ends and the middle of its range."""
    distribution = next(trial.distributions[name] for trial in trials if name in trial.params)
    if isinstance(distribution, CategoricalDistribution):
        top = max(1, len(distribution.choices) - 1)
        return [(place / top, str(choice)) for place, choice in enumerate(distribution.choices)]
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    middle = (low * high) ** 0.5 if distribution.log else (low + high) / 2  # type: ignore[attr-defined]
    return [(height, f"{value:.2g}") for height, value in ((0.0, low), (0.5, middle), (1.0, high))]


def learning_curves(path: Path, trials: Sequence[FrozenTrial], best: FrozenTrial) -> None:
    """Validation accuracy at each report; a cross is where a trial was pruned."""
    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    for trial in [*(trial for trial in trials if trial.number != best.number), best]:
        steps, values = list(trial.intermediate_values), list(trial.intermediate_values.values())
        if not steps:
            continue
        if trial.number == best.number:
            axis.plot(steps, values, color=ACCENT, linewidth=2.5, marker="o", label=f"trial {best.number}, the best")
        elif trial.state == TrialState.PRUNED:
            axis.plot(steps, values, color=SOFT, linewidth=0.8, alpha=0.6)
            axis.scatter(steps[-1], values[-1], color=SOFT, marker="x", s=28, zorder=3)
        else:
            axis.plot(steps, values, color=PALE, linewidth=1)
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    axis.plot([], [], color=PALE, linewidth=1, label="other complete trials")
    axis.plot([], [], color=SOFT, linewidth=0.8, marker="x", label=f"{pruned} pruned trials")
    axis.set(xlabel="report", title="How the trials learned")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    reported = [value for trial in trials for value in trial.intermediate_values.values()]
    accuracy_axis(axis, [best.value or 0.0, *reported])
    axis.legend(frameon=False, fontsize=8)
    save(figure, path)
