"""A real TorchServe for the tests to talk to, started once and left as it was found."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.small_model import HANDLERS

from mnist_pipeline import serving


@pytest.fixture(scope="session")
def server(int8_archive: Path) -> Iterator[serving.Running]:
    """TorchServe with the development settings."""
    with serving.running(int8_archive, HANDLERS) as running:
        yield running
