"""What several tests need: shapes in signatures are checked while they run, and the real MNIST is at hand."""

import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock
from helpers import ROOT, environment
from jaxtyping import install_import_hook

neutral = environment.neutral(os.environ)
os.environ.clear()
os.environ.update(neutral)
# A suite that runs in the background (nohup, some CI) inherits Ctrl-C ignored, and would hand that on to the processes
# that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The processes of pytest-xdist share the cores. With a thread for each core in each of two processes, and in the stages
# that these start, training was half as fast.
if processes := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
install_import_hook("mnist_pipeline", "beartype.beartype")

# After the hook:
from helpers import small_model, small_pipeline  # noqa: E402

from mnist_pipeline.data.dataset import DataError, Dataset, load, load_test  # noqa: E402
from mnist_pipeline.sources import download  # noqa: E402
from mnist_pipeline.training.model import load_model  # noqa: E402
from mnist_pipeline.training.network import DigitNetwork  # noqa: E402
from mnist_pipeline.training.runtime import configure  # noqa: E402

configure()

# Whatever needs one of these is slow: a pipeline that has run, a network trained for the tests, a server, a browser.
SLOW_FIXTURES = {"finished", "repository", "saved", "server", "browser"}
# The longest files come first, so that two processes end at about the same time. The third needs the pipeline that the
# first has run, and would wait for it if it were the second.
FIRST = ("test_pipeline.py", "test_torchserve_command.py", "test_readme.py", "test_answers.py", "test_demo.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and put the longest files first."""
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def mnist(request: pytest.FixtureRequest) -> Path:
    """The folder of the real MNIST: the pipeline's own data/ where it is there, else downloaded once."""
    folder = request.config.cache.mkdir("datasets") / "MNIST"
    with FileLock(folder.with_suffix(".lock")):
        try:
            load_test(folder)
        except DataError:
            download.download("MNIST", folder, [str(ROOT / "data")])
    return folder


@pytest.fixture(scope="session")
def digits(mnist: Path) -> Dataset:
    """Real digits, the last 1,000 of the training images held out."""
    return load(mnist, 1000, 0)


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Fill a folder once for all processes of pytest-xdist, which share the parent of their base folders."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    complete = folder.with_suffix(".complete")
    with FileLock(folder.with_suffix(".lock")):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            complete.touch()
    return folder


@pytest.fixture(scope="session")
def saved(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a network that reads most digits."""
    make = partial(small_model.train_and_save, digits=digits)
    return make_once(tmp_path_factory, "model", make) / "saved_models"


@pytest.fixture(scope="session")
def trained(saved: Path) -> DigitNetwork:
    """That network."""
    return load_model(saved)[0]


@pytest.fixture(scope="session")
def int8_archive(saved: Path, digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its archive, in int8 at any price."""
    make = partial(small_model.pack, saved=saved, digits=digits, maximal_drop=1.0)
    return make_once(tmp_path_factory, "int8", make) / "mnist.mar"


@pytest.fixture(scope="session")
def plain_archive(saved: Path, digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its archive, in fp32."""
    make = partial(small_model.pack, saved=saved, digits=digits, maximal_drop=-1.0)
    return make_once(tmp_path_factory, "fp32", make) / "mnist.mar"


@pytest.fixture(scope="session")
def finished(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository after a `make repro` that was killed in tune and in train. Shared: tests copy it."""

    def make(folder: Path) -> None:
        small_pipeline.interrupted(small_pipeline.copy(mnist, folder / "repository"))

    return make_once(tmp_path_factory, "pipeline", make) / "repository"


@pytest.fixture(scope="session")
def repository(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it that a test may change, its run committed."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("committed") / "repository"))
    small_pipeline.commit_all(folder)
    return folder
