"""What several tests need: shapes in signatures are checked while they run, and the real MNIST is at hand."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from helpers import ROOT
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from mnist_pipeline import data
    from mnist_pipeline.network import DigitNetwork

# A suite that runs in the background (nohup, some CI) inherits Ctrl-C ignored, and would hand that on to the processes
# that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Where two processes share the cores, OpenMP threads that spin while they wait take them from each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
install_import_hook("mnist_pipeline", "beartype.beartype")


# Whatever needs one of these is slow: a pipeline that has run, a network trained for the tests, a server, a browser.
SLOW_FIXTURES = {"repository", "clone", "trained", "server", "browser"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow; the files with pipelines, which take longest, come first."""
    items.sort(key=lambda item: not fixtures_of(item) & {"repository", "clone"})
    for item in items:
        if fixtures_of(item) & SLOW_FIXTURES:
            item.add_marker(pytest.mark.slow)


def fixtures_of(item: pytest.Item) -> set[str]:
    """The names of the fixtures that a test needs, itself or through others."""
    return set(getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def mnist(request: pytest.FixtureRequest) -> Path:
    """The folder of the real MNIST: the pipeline's own data/ where it is there, else downloaded once."""
    from mnist_pipeline import data, download

    folder = request.config.cache.mkdir("datasets") / "MNIST"
    with FileLock(folder.with_suffix(".lock")):
        try:
            data.load_test(folder)
        except data.DataError:
            download.download("MNIST", folder, [str(ROOT / "data")])
    return folder


@pytest.fixture(scope="session")
def digits(mnist: Path) -> "data.Dataset":
    """Real digits, the last 1,000 of the training images held out."""
    from mnist_pipeline import data

    return data.load(mnist, 1000, 0)


@pytest.fixture(scope="session")
def trained(digits: "data.Dataset") -> "DigitNetwork":
    """A network that reads most digits."""
    from helpers import small_model

    return small_model.train(digits)


@pytest.fixture(scope="session")
def saved(trained: "DigitNetwork", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its model folder."""
    from helpers import small_model

    return small_model.save(tmp_path_factory.mktemp("model"), trained)


@pytest.fixture(scope="session")
def int8_archive(saved: Path, digits: "data.Dataset", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its archive, with the int8 form at any price."""
    from helpers import small_model

    return small_model.pack(tmp_path_factory.mktemp("int8"), saved, digits, maximal_drop=1.0)


@pytest.fixture(scope="session")
def plain_archive(saved: Path, digits: "data.Dataset", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its archive, without the int8 form."""
    from helpers import small_model

    return small_model.pack(tmp_path_factory.mktemp("plain"), saved, digits, maximal_drop=-1.0)


@pytest.fixture(scope="session")
def repository(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository after a `dvc repro` that was killed in the middle of every long stage."""
    from helpers import small_pipeline

    return small_pipeline.interrupted(small_pipeline.copy(mnist, tmp_path_factory.mktemp("clone") / "repository"))
