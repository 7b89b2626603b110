"""A study as pictures: Optuna's own plots, with an axis that tells 99 % from 99.5 %."""

import warnings
from collections.abc import Callable
from pathlib import Path

import optuna
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import TrialState
from optuna.visualization import matplotlib as optuna_plots

from mnist_pipeline.figures import save


def draw(folder: Path, study: optuna.Study) -> None:
    """Write history.png, learning_curves.png, importances.png and parallel_coordinates.png.

    Args:
        folder: gets the plots.
        study: with at least one complete trial.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    complete = [trial.value or 0.0 for trial in trials if trial.state == TrialState.COMPLETE]
    evaluations = [value for trial in trials for value in trial.intermediate_values.values()]

    def history(study: optuna.Study) -> Axes:
        axis = optuna_plots.plot_optimization_history(study, target_name="validation accuracy")
        return show_accuracies(axis, complete, hidden=0.1)

    def learning_curves(study: optuna.Study) -> Axes:
        axis = optuna_plots.plot_intermediate_values(study)
        axis.set(xlabel="evaluation", ylabel="validation accuracy")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if legend := axis.get_legend():
            legend.remove()  # a hundred trials' names would cover the curves
        return show_accuracies(axis, evaluations, hidden=0.4)

    def importances(study: optuna.Study) -> Axes:
        if len(set(complete)) < 2:
            raise ValueError("Importances need two complete trials of different accuracy.")
        return optuna_plots.plot_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))

    def parallel_coordinates(study: optuna.Study) -> Axes:
        axis = optuna_plots.plot_parallel_coordinate(study, target_name="validation accuracy")
        plt.gcf().set_size_inches(11, 5)
        return axis

    for plot in (history, learning_curves, importances, parallel_coordinates):
        write(folder / f"{plot.__name__}.png", plot, study)


def show_accuracies(axis: Axes, accuracies: list[float], hidden: float) -> Axes:
    """Scale an axis to all but the share `hidden` of the accuracies: the worst ones would press the others together."""
    ordered = sorted(accuracies)
    if ordered:
        low, high = ordered[int(hidden * len(ordered))], ordered[-1]
        margin = max(0.1 * (high - low), 0.001)
        axis.set_ylim(low - margin, high + margin)
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    return axis


def write(path: Path, plot: Callable[[optuna.Study], Axes], study: optuna.Study) -> None:
    """Write one plot; where too few trials are there for it, a sentence takes its place."""
    # Optuna's plots with matplotlib are experimental, and it warns of that. They write 10⁻² as a formula.
    with warnings.catch_warnings(action="ignore"), plt.rc_context({"text.parse_math": True}):
        try:
            plot(study)
            figure = plt.gcf()
        except (ValueError, RuntimeError) as error:  # too few complete trials, or all of the same value
            plt.close("all")
            figure, axis = plt.subplots(figsize=(6.4, 2))
            axis.axis("off")
            axis.text(0, 0.5, f"There are too few different trials for this plot.\n({error})", wrap=True)
        save(figure, path)
