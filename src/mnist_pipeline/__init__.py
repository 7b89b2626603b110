"""From handwritten-digit data to a tuned, measured, served model.

What Python users need stands here; each name is imported from its module when it is first used, so that
`import mnist_pipeline` takes no time.
"""

from importlib import import_module
from typing import Any

MODULES = {
    "DigitNetwork": "training.network",
    "Hyperparameters": "training.hyperparameters",
    "fit": "training.loop",
    "load_model": "training.model",
    "predict": "training.inference",
    "read_digit": "reading",
}
__all__ = ["DigitNetwork", "Hyperparameters", "fit", "load_model", "predict", "read_digit"]


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
