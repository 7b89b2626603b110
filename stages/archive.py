"""model_store/mnist.mar: what TorchServe serves."""

import logging
from pathlib import Path

from mnist_pipeline import console, settings
from mnist_pipeline.data.dataset import load
from mnist_pipeline.serving.archive import archive
from mnist_pipeline.training.runtime import configure

log = logging.getLogger(__name__)


def main() -> None:
    configure()
    params = settings.load()
    dataset = load(Path("data"), params.data.validation_images, params.data.seed)
    destination = Path("model_store/mnist.mar")
    serving = archive(
        Path("saved_models"),
        Path("handlers"),
        destination,
        calibration=dataset.train.images,
        validation=dataset.validation,
        maximal_drop=params.archive.max_drop,
        least=params.reading.least,
    )
    log.info("%s: served in %s; %s.", destination, serving["format"], serving["reason"])


if __name__ == "__main__":
    console.run(main)
