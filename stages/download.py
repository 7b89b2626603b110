"""data/: the verified IDX files of the dataset."""

from pathlib import Path

from mnist_pipeline import console, data, settings


def main() -> None:
    params = settings.load().data
    data.download(params.dataset, Path("data"), params.mirrors, params.source and Path(params.source))


if __name__ == "__main__":
    console.run(main)
