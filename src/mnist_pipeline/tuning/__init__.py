"""The Optuna study that finds the hyperparameters."""
