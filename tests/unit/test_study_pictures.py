"""The pictures of a study, whatever its trials came to; a warning is an error."""

from pathlib import Path

import optuna
import pytest

from mnist_pipeline import study_pictures


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
def test_any_accuracies_can_be_drawn(tmp_path: Path, values: list[float]) -> None:
    """Of a few validation images all are right in every trial, or none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("lr", 0.001, 0.1, log=True)
        trial.suggest_categorical("optimizer", ["adam", "$sgd"])
        trial.report(values[trial.number], 1)
        return values[trial.number]

    study.optimize(objective, n_trials=len(values))
    study_pictures.draw(tmp_path, study, study.trials, study.best_trial)
    assert len(list(tmp_path.glob("*.png"))) == 4
