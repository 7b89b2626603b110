"""From handwritten-digit data to a tuned, measured, served model.

A name is looked up when it is first used, so importing `read_digit` does not import PyTorch.
"""

from importlib import import_module
from typing import Any

HOMES = {
    "DigitNetwork": "training.network.DigitNetwork",
    "Hyperparameters": "training.hyperparameters.Hyperparameters",
    "configure": "training.runtime.configure",
    "fit": "training.loop.fit",
    "load_dataset": "data.dataset.load",
    "load_model": "training.model.load_model",
    "predict": "training.inference.predict",
    "read_digit": "reading.read_digit",
    "read_digits": "reading.read_digits",
}
__all__ = list(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    module, _, attribute = HOMES[name].rpartition(".")
    return getattr(import_module(f"{__name__}.{module}"), attribute)
