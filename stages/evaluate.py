"""results/evaluate/: what the archived model answers to the test images, in figures and pictures."""

from pathlib import Path

from mnist_pipeline import console, settings
from mnist_pipeline.data.dataset import load_test
from mnist_pipeline.evaluation.evaluate import evaluate
from mnist_pipeline.training.runtime import configure


def main() -> None:
    configure()
    mistakes = settings.load().evaluate.mistakes
    evaluate(Path("model_store/mnist.mar"), load_test(Path("data")), Path("results/evaluate"), mistakes)


if __name__ == "__main__":
    console.run(main)
