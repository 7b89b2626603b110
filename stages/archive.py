"""model_store/mnist.mar: what TorchServe serves."""

import logging
from pathlib import Path

from mnist_pipeline import archive, console, data, settings


def main() -> None:
    params = settings.load()
    dataset = data.load(Path("data"), params.data.validation_images, params.data.seed)
    destination = Path("model_store/mnist.mar")
    serving = archive.archive(
        Path("saved_models"),
        Path("handlers/mnist_handler.py"),
        Path("handlers/model-config.yaml"),
        destination,
        calibration=dataset.train.images,
        validation_images=dataset.validation.images,
        validation_labels=dataset.validation.labels,
        maximal_drop=params.archive.max_drop,
    )
    logging.getLogger(__name__).info("%s: %s", destination, serving)


if __name__ == "__main__":
    console.run(main)
