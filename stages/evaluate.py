"""results/evaluate/: what the model does on the test images, in figures and pictures."""

from pathlib import Path

from mnist_pipeline import console, evaluate_model, settings


def main() -> None:
    params = settings.load().evaluate
    evaluate_model.evaluate_model(
        Path("data"),
        Path("saved_models"),
        Path("results/evaluate"),
        mistakes=params.mistakes,
        photographs=params.photographs,
        seed=params.seed,
    )


if __name__ == "__main__":
    console.run(main)
