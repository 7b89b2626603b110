"""What several tests need: shapes in signatures are checked while they run, and the real MNIST is at hand."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Where two processes share the cores, OpenMP threads that spin while they wait take them from each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
install_import_hook("mnist_pipeline", "beartype.beartype")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def mnist(request: pytest.FixtureRequest) -> Path:
    """The folder of the real MNIST: the pipeline's own data/ where it is there, else downloaded once."""
    from mnist_pipeline import data, download

    folder = request.config.cache.mkdir("datasets") / "MNIST"
    try:
        data.load_test(folder)
    except data.DataError:
        download.download("MNIST", folder, [str(ROOT / "data")])
    return folder
