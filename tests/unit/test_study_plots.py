"""The plots of a study: each shows what its trials reached, however few there are."""

from pathlib import Path

import numpy as np
import optuna
import pytest
from matplotlib import pyplot as plt
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from optuna.trial import TrialState

from mnist_pipeline.tuning import plots

NAMES = ["history", "importances", "learning_curves"]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures by name, in place of files."""
    kept: dict[str, Figure] = {}
    monkeypatch.setattr(plots, "save", lambda figure, path: kept.__setitem__(path.stem, figure))
    return kept


def make_study(trials: int, parameters: int = 3) -> optuna.Study:
    """Trials whose accuracy depends on the learning rate; the second one failed."""
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.RandomSampler(0), pruner=optuna.pruners.MedianPruner(4, 2)
    )

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-4, 0.1, log=True)
        if parameters > 1 and trial.suggest_categorical("optimizer", ["adam", "sgd"]) == "sgd":
            trial.suggest_float("momentum", 0.8, 0.95)
        if trial.number == 1:
            raise ValueError("it diverged")
        for step in range(1, 5):
            trial.report(0.99 - lr - 0.1 / step, step)
            if step < 4 and trial.should_prune():
                raise optuna.TrialPruned
        return 0.99 - lr

    study.optimize(objective, n_trials=trials, catch=(ValueError,))
    return study


def test_every_trial_is_in_its_plots(figures: dict[str, Figure], tmp_path: Path) -> None:
    study = make_study(20)
    plots.draw(tmp_path, study, optuna.create_study(), study.best_trial)
    assert sorted(figures) == NAMES
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    assert pruned
    points = np.asarray(figures["history"].axes[0].collections[0].get_offsets())
    assert sorted(points.tolist()) == [[trial.number, trial.value] for trial in complete]
    curves = figures["learning_curves"].axes[0].lines
    assert len(curves) == len(complete) + len(pruned)
    (named,) = [curve for curve in curves if not str(curve.get_label()).startswith("_")]
    assert named.get_label() == f"trial {study.best_trial.number}, chosen"
    assert np.asarray(named.get_ydata()).tolist() == list(study.best_trial.intermediate_values.values())
    low, high = figures["history"].axes[0].get_ylim()
    assert low < sorted(points[:, 1])[len(complete) // 5] < study.best_value < high
    bars = figures["importances"].axes[0].containers[0]
    assert [tick.get_text() for tick in figures["importances"].axes[0].get_yticklabels()][-1] == "lr"
    assert isinstance(bars, BarContainer)
    assert sum(bar.get_width() for bar in bars) == pytest.approx(1)
    plt.close("all")


@pytest.mark.parametrize(("trials", "parameters"), [(1, 3), (6, 1)])
def test_few_trials_and_one_parameter_make_plots_too(trials: int, parameters: int, tmp_path: Path) -> None:
    study = make_study(trials, parameters)
    plots.draw(tmp_path, study, optuna.create_study(), study.best_trial)
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == NAMES
