"""Which hyperparameters a training has, and where each came from."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from mnist_pipeline.augmentation import Augmentation
from mnist_pipeline.data import DATASETS
from mnist_pipeline.training import WEIGHT_DECAY, Hyperparameters

CENTRED = ("MNIST", "QMNIST")  # digits within 20x20, laid with their centre of mass in the middle of 28x28


def by_dataset(name: str) -> dict[str, float]:
    """What suits a dataset, of the hyperparameters that depend on what the images show."""
    changes = DATASETS[name].changes
    return {
        "crop": 0.8 if name in CENTRED else 0.0,
        "rotation": 10.0 if changes.affine else 0.0,
        "translation": 1.0 if changes.affine else 0.0,
        "scaling": 0.08 if changes.affine else 0.0,
        "flip": 0.5 if changes.flip else 0.0,
    }


def choose(
    given: Mapping[str, Any], tuned: Mapping[str, Any], dataset: str
) -> tuple[Hyperparameters, dict[str, dict[str, Any]]]:
    """Each hyperparameter: the one given, else what tune found, else what suits the dataset, else the default.

    Where no weight decay is given or was found, it is the one that suits the optimizer.

    Args:
        given: values by name; None gives none.
        tuned: values by name.
        dataset: its name.

    Returns:
        The hyperparameters, and for each name its value and where it came from.
    """
    defaults = asdict(Hyperparameters())
    defaults |= defaults.pop("augmentation")
    sources: dict[str, dict[str, Any]] = {}
    for name, default in defaults.items():
        for source, values in (("params.yaml", given), ("tune", tuned), ("dataset", by_dataset(dataset))):
            if values.get(name) is not None:
                sources[name] = {"value": values[name], "source": source}
                break
        else:
            sources[name] = {"value": default, "source": "default"}
    chosen = hyperparameters({name: source["value"] for name, source in sources.items()})
    if chosen.weight_decay is None:  # stays so in `chosen`: a study's trials differ in their optimizer
        sources["weight_decay"] = {"value": WEIGHT_DECAY[chosen.optimizer], "source": "optimizer"}
    return chosen, sources


def hyperparameters(values: Mapping[str, Any]) -> Hyperparameters:
    """Hyperparameters from flat values by name, those of the augmentation among them."""
    inner = {field.name for field in fields(Augmentation)}
    augmentation = Augmentation(**{name: value for name, value in values.items() if name in inner})
    outer = {name: value for name, value in values.items() if name not in inner}
    return Hyperparameters(**outer, augmentation=augmentation)
