"""results/evaluate/: what the model does on the test images, in figures and pictures."""

from pathlib import Path

from mnist_pipeline import console, data, evaluate_model, settings


def main() -> None:
    params = settings.load()
    evaluate_model.evaluate_model(
        data.load(Path("data"), params.data.validation_images, params.data.seed),
        data.load_test(Path("data")),
        Path("saved_models"),
        Path("results/evaluate"),
        maximal_drop=params.archive.max_drop,
        mistakes=params.evaluate.mistakes,
        photographs=params.evaluate.photographs,
        seed=params.evaluate.seed,
    )


if __name__ == "__main__":
    console.run(main)
