"""A study as pictures: what its trials reached, how they learned, and which hyperparameters mattered."""

import warnings
from pathlib import Path

import optuna
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator, PercentFormatter
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as optuna_plots

from mnist_pipeline.figures import ACCENT, INK, SOFT, save
from mnist_pipeline.tuning.trials import RETRAINS, rank

ENOUGH_TRIALS = 10  # complete ones, below which importances are chance


def draw(folder: Path, study: optuna.Study, retrained: optuna.Study, chosen: FrozenTrial) -> None:
    """Write history.png, learning_curves.png and importances.png; the training takes the values of `chosen`."""
    save_history(folder / "history.png", study, retrained, chosen)
    save_learning_curves(folder / "learning_curves.png", study, chosen)
    save_importances(folder / "importances.png", study)


def save_history(path: Path, study: optuna.Study, retrained: optuna.Study, chosen: FrozenTrial) -> None:
    """Draw the accuracy of each trial in the order in which they ran, and of its retraining, which saw more images."""
    figure, axis = plt.subplots(figsize=(8, 4))
    complete = {trial.number: trial.value or 0 for trial in rank(study)}
    again = {trial.user_attrs[RETRAINS]: trial.value or 0 for trial in rank(retrained)}
    pruned = {trial.number: trial.value or 0 for trial in study.trials if trial.state == TrialState.PRUNED}
    for label, marker, colour, points in (
        ("short trial", "o", ACCENT, complete),
        ("the same, trained for longer", "D", SOFT, again),
        ("pruned, last evaluation", "x", "0.6", pruned),
    ):
        if points:
            axis.scatter(list(points), list(points.values()), marker=marker, color=colour, label=label)
    for points in (complete, again):
        if chosen.number in points:
            axis.annotate(" chosen", (chosen.number, points[chosen.number]))
    show_accuracies(axis, [*complete.values(), *again.values()])
    axis.set(xlabel="trial", ylabel="validation accuracy")
    axis.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
    save(figure, path)


def save_learning_curves(path: Path, study: optuna.Study, chosen: FrozenTrial) -> None:
    """Draw each trial's evaluations, coloured by the trial's accuracy; the chosen trial's curve is thick, and named."""
    figure, axis = plt.subplots(figsize=(8, 4))
    trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    ordered = sorted(trial.value or 0 for trial in trials)
    # The worst quarter is equally pale.
    shades = ScalarMappable(Normalize(ordered[len(ordered) // 4], ordered[-1]), "viridis_r")
    for trial in trials:
        steps, values = list(trial.intermediate_values), list(trial.intermediate_values.values())
        if trial.number == chosen.number:
            axis.plot(steps, values, ".-", color=INK, linewidth=2.5, zorder=3, label=f"trial {trial.number}, chosen")
        else:
            axis.plot(steps, values, ".-", color=shades.to_rgba(trial.value or 0), linewidth=1)  # type: ignore[arg-type]
    figure.colorbar(shades, ax=axis, format=PercentFormatter(1), label="accuracy of the trial")
    show_accuracies(axis, [value for trial in trials for value in trial.intermediate_values.values()])
    axis.set(xlabel="evaluation", ylabel="validation accuracy")
    axis.legend(loc="lower right")
    save(figure, path)


def show_accuracies(axis: Axes, accuracies: list[float]) -> None:
    """Scale an axis to all but the worst fifth of the accuracies, which would press the others together."""
    ordered = sorted(accuracies) or [0.0]
    low, high = ordered[len(ordered) // 5], ordered[-1]
    margin = max(0.15 * (high - low), 0.001)
    axis.set_ylim(low - margin, high + margin)
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def save_importances(path: Path, study: optuna.Study) -> None:
    """Draw how much each hyperparameter decides of the accuracy; a sentence takes its place where trials are few."""
    values = [trial.value for trial in rank(study)]
    if len(values) >= ENOUGH_TRIALS and len(set(values)) > 1:
        with warnings.catch_warnings(action="ignore"):  # Optuna's plots with matplotlib are experimental
            axis = optuna_plots.plot_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
        axis.set(title="", ylabel="")
    else:
        axis = plt.subplots(figsize=(6.4, 1))[1]
        axis.axis("off")
        axis.text(0, 0.5, f"Importances need {ENOUGH_TRIALS} complete trials of different accuracy.")
    save(plt.gcf(), path)
