"""What all tests share: shapes are checked, and the real MNIST is at hand."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Two test processes' OpenMP threads that spin while they wait would take the cores from each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
install_import_hook("mnist_pipeline", "beartype.beartype")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def mnist() -> Path:
    """The folder data/ with the real MNIST; downloaded where `dvc repro` has not been run yet."""
    from mnist_pipeline import data, download

    folder = ROOT / "data"
    try:
        data.load(folder, 5000, 0)
    except data.DataError:
        folder = ROOT / "tests" / ".cache" / "MNIST"
        if not (folder / "dataset.json").exists():
            download.download("MNIST", folder)
    return folder
