"""What several tests need: shapes in signatures are checked while they run, and the real MNIST is at hand."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("mnist_pipeline", "beartype.beartype")


@pytest.fixture(scope="session")
def mnist(request: pytest.FixtureRequest) -> Path:
    """The folder of the real MNIST, downloaded once. MNIST_MIRROR names a folder or URL to ask first."""
    from mnist_pipeline import data, download

    folder = Path(request.config.cache.mkdir("datasets")) / "MNIST"
    try:
        data.load_test(folder)
    except data.DataError:
        mirror = os.environ.get("MNIST_MIRROR")
        download.download("MNIST", folder, [mirror] if mirror else [])
    return folder
