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
from mnist_pipeline.tuning.trials import RETRAINS, is_retraining

ENOUGH_TRIALS = 10  # complete ones, below which importances are chance


def draw(folder: Path, study: optuna.Study, chosen: FrozenTrial) -> None:
    """Write history.png, learning_curves.png and importances.png.

    Args:
        folder: gets the plots.
        study: with at least one complete trial.
        chosen: the trial whose values the training takes.
    """
    trials = [
        trial for trial in study.get_trials(deepcopy=False) if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    ]
    short = [trial for trial in trials if not is_retraining(trial)]
    save_history(folder / "history.png", trials, chosen)
    save_learning_curves(folder / "learning_curves.png", short, chosen)
    save_importances(folder / "importances.png", [trial for trial in short if trial.state == TrialState.COMPLETE])


def save_history(path: Path, trials: list[FrozenTrial], chosen: FrozenTrial) -> None:
    """Draw the accuracy of each trial in the order in which they ran; retrainings, which saw more images, apart."""
    figure, axis = plt.subplots(figsize=(8, 4))
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    short = [trial for trial in complete if not is_retraining(trial)]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and trial.intermediate_values]
    for label, marker, colour, points in (
        ("complete", "o", ACCENT, {trial.number: trial.value or 0 for trial in short}),
        (
            "trained again, for longer",
            "D",
            SOFT,
            {each.number: each.value or 0 for each in complete if each not in short},
        ),
        ("pruned, last evaluation", "x", "0.6", {trial.number: last_evaluation(trial) for trial in pruned}),
    ):
        if points:
            axis.scatter(list(points), list(points.values()), marker=marker, color=colour, label=label)
    for trial in complete:
        if chosen.number in (trial.number, trial.user_attrs.get(RETRAINS)):
            axis.annotate(" chosen", (trial.number, trial.value or 0))
    show_accuracies(axis, [trial.value or 0 for trial in complete])
    axis.set(xlabel="trial", ylabel="validation accuracy")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(fontsize="small", loc="upper left")
    save(figure, path)


def save_learning_curves(path: Path, trials: list[FrozenTrial], chosen: FrozenTrial) -> None:
    """Draw each trial's evaluations, coloured by the last one; the chosen trial's curve is thick, and named."""
    figure, axis = plt.subplots(figsize=(8, 4))
    curves = sorted((trial for trial in trials if trial.intermediate_values), key=last_evaluation)
    last = [last_evaluation(trial) for trial in curves] or [0.0]
    shades = ScalarMappable(Normalize(last[len(last) // 4], last[-1]), "viridis_r")  # the worst quarter is equally pale
    for trial in curves:
        steps, accuracies = zip(*sorted(trial.intermediate_values.items()), strict=True)
        is_chosen = trial.number == chosen.number
        axis.plot(
            steps,
            accuracies,
            marker="o",
            markersize=3,
            color=INK if is_chosen else shades.to_rgba(last_evaluation(trial)),  # type: ignore[arg-type]
            linewidth=2.5 if is_chosen else 1,
            label=f"trial {trial.number}, chosen" if is_chosen else None,
        )
    figure.colorbar(shades, ax=axis, format=PercentFormatter(1), label="last evaluation")
    show_accuracies(axis, [value for trial in curves for value in trial.intermediate_values.values()])
    axis.set(xlabel="evaluation", ylabel="validation accuracy")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if chosen in curves:
        axis.legend(loc="lower right")
    save(figure, path)


def last_evaluation(trial: FrozenTrial) -> float:
    """The last accuracy that a trial reported."""
    return trial.intermediate_values[max(trial.intermediate_values)]


def show_accuracies(axis: Axes, accuracies: list[float]) -> None:
    """Scale an axis to all but the worst fifth of the accuracies, which would press the others together."""
    ordered = sorted(accuracies)
    if ordered:
        low, high = ordered[len(ordered) // 5], ordered[-1]
        margin = max(0.15 * (high - low), 0.001)
        axis.set_ylim(low - margin, high + margin)
    axis.yaxis.set_major_formatter(PercentFormatter(1))


def save_importances(path: Path, complete: list[FrozenTrial]) -> None:
    """Draw how much each hyperparameter decides of the accuracy; a sentence takes its place where trials are few."""
    if len(complete) >= ENOUGH_TRIALS and len({trial.value for trial in complete}) > 1:
        study = optuna.create_study(direction="maximize")  # in memory: the study has retrainings too
        study.add_trials(complete)
        with warnings.catch_warnings(action="ignore"):  # Optuna's plots with matplotlib are experimental
            axis = optuna_plots.plot_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
        axis.set(title="", ylabel="")
        axis.get_legend().remove()
    else:
        axis = plt.subplots(figsize=(6.4, 1))[1]
        axis.axis("off")
        axis.text(0, 0.5, f"Importances need {ENOUGH_TRIALS} complete trials of different accuracy.")
    save(plt.gcf(), path)
