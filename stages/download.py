"""data/: the verified IDX files of the dataset."""

from pathlib import Path

from mnist_pipeline import console, settings
from mnist_pipeline.sources import download
from mnist_pipeline.sources.forms import Wanted


def main() -> None:
    params = settings.load().data
    download.download(
        params.dataset,
        Path("data"),
        params.mirrors,
        params.source,
        skip_damaged=params.skip_damaged,
        wanted=Wanted(params.reader, params.image_size, params.colour),
    )


if __name__ == "__main__":
    console.run(main)
