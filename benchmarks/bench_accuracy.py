"""Accuracy of a recipe on the test images: mean, spread, every seed, and the seconds of training that it takes.

`target` is the time to 99.28 %, the accuracy that three epochs of the usual PyTorch loop reached in some 2,600 s;
`default` is what params.yaml and the study say; `long` is for those with more time. recipes.yaml has what the first and
the last change in params.yaml. All were chosen on validation images, and each seed's last weights are evaluated once on
the test images. Seconds are those of training, from the first step to the last.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import yaml
from common import ROOT
from figures import publish

from mnist_pipeline import settings
from mnist_pipeline.data.dataset import Dataset, Examples, load, load_test
from mnist_pipeline.evaluation.metrics import accuracy_with_interval
from mnist_pipeline.training import loop
from mnist_pipeline.training.generated import add_generated
from mnist_pipeline.training.hyperparameters import Hyperparameters, resolve
from mnist_pipeline.training.inference import predict
from mnist_pipeline.training.network import DigitNetwork
from mnist_pipeline.training.runtime import configure

RECIPES = {"default": {}, **yaml.safe_load((Path(__file__).parent / "recipes.yaml").read_text())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", choices=RECIPES, default="target")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    arguments = parser.parse_args()
    name, seeds = arguments.recipe, range(arguments.seeds)
    configure()
    params = settings.load(ROOT / "params.yaml")
    dataset = load(ROOT / "data", params.data.validation_images, params.data.seed)
    test = load_test(ROOT / "data")
    hp, sources = resolve(params.train.model_dump() | RECIPES[name], read_tuned(name), dataset.defaults)
    runs = [run(dataset, test, hp, seed) for seed in seeds]
    accuracies = [run["accuracy"] for run in runs]
    content = {
        "accuracy_mean": statistics.mean(accuracies),
        "accuracy_sd": statistics.stdev(accuracies) if len(runs) > 1 else 0.0,
        "seconds_mean": statistics.mean(run["seconds"] for run in runs),
        "runs": runs,
        "recipe": {key: source["value"] for key, source in sources.items()},
    }
    publish("accuracy" if name == "target" else f"accuracy-{name}", content)


def read_tuned(name: str) -> dict[str, Any]:
    """What the study found; recipes.yaml leaves nothing to it."""
    file = ROOT / "results/tune/best_params.yaml"
    if name != "default":
        return {}
    if not file.exists():
        raise SystemExit(f"{file} is missing: `dvc repro tune` writes what the default recipe needs")
    return dict(yaml.safe_load(file.read_text()))


def run(dataset: Dataset, test: Examples, hp: Hyperparameters, seed: int) -> dict[str, Any]:
    """Train with one seed, and evaluate once on the test images."""
    network, last = train(dataset, hp, seed, f"seed {seed}")
    figures = accuracy_with_interval(predict(network, test.images).argmax(1) == test.labels)
    print(
        f"seed {seed}: {figures['accuracy']:.2%} ({figures['accuracy_low']:.2%} to {figures['accuracy_high']:.2%}; "
        f"validation {last.validation_accuracy:.2%}) after {last.seconds:.0f} s",
        flush=True,
    )
    about = {"seed": seed, "seconds": last.seconds, "images": last.images}
    return about | figures | {"validation_accuracy": last.validation_accuracy}


def train(dataset: Dataset, hp: Hyperparameters, seed: int, description: str) -> tuple[DigitNetwork, loop.Evaluation]:
    """Train a network as the stage does, and return it with its evaluation on the validation images."""
    network = loop.new_network(dataset, seed)
    images = add_generated(dataset.train, hp, dataset.class_names, seed)
    history = loop.fit(network, images, dataset.validation, hp, seed=seed, evaluations=1, description=description)
    return network, history[-1]


if __name__ == "__main__":
    main()
