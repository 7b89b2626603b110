"""Open an archive, and run the code that is in it: what is measured is then what will be served."""

import importlib.util
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mnist_pipeline.console import PipelineError
from mnist_pipeline.training.model_info import ModelInfo

PACKAGE = "mnist_model"  # the folder of an archive that holds its code


class OpenError(PipelineError):
    """An archive that is missing, damaged or of another version; the message says which and what to do."""


@runtime_checkable
class ArchivedItem(Protocol):
    """Something in a picture: an `Item` of an archive's reading."""

    image: NDArray[np.uint8]  # (28, 28)
    box: Sequence[int]  # left, top, width, height in the picture's pixels


@runtime_checkable
class ArchivedFound(Protocol):
    """What the network makes of an item: a `Found` of an archive's serving/answer.py."""

    item: ArchivedItem
    probabilities: NDArray[np.float32]  # (classes,)
    known: float  # 0 to 1


@runtime_checkable
class ArchivedResponse(Protocol):
    """What is answered to a request: a `Response` of an archive's serving/answer.py."""

    status: int
    body: bytes
    rejected: list[int]  # the status of each picture that was rejected
    known: list[float]  # the score of each thing that was found


@runtime_checkable
class ArchivedModel(Protocol):
    """What this project uses of the class `Model` in an archive's serving/answer.py."""

    info: ModelInfo
    is_digits: bool  # whether its classes are digits, so that a picture may hold several

    def answer(self, bodies: Sequence[bytes], explain: Sequence[bool]) -> Sequence[ArchivedResponse]:
        """Answer the requests of a batch, with status 503 those for which it has no time."""

    def probability(self, found: Sequence[ArchivedFound]) -> float:
        """That a picture in which this was found was read rightly as a whole, 0 to 1."""

    def find(self, pictures: Sequence[bytes]) -> list[tuple[list[ArchivedFound], str]]:
        """What is answered to pictures, each sent alone: what was found, or nothing and the reason."""

    def logits(self, digits: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated logits (N, classes) of digits (N, 28, 28)."""

    def score(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """How sure it is that images are of any class, 0 to 1: (N,), of calibrated logits."""


@contextmanager
def open_archive(archived: Path) -> Iterator[tuple[ArchivedModel, Path]]:
    """Unpack an archive to a temporary folder, and load its model with its own code, on the CPU.

    Args:
        archived: the .mar.

    Returns:
        The model, and the folder, which also holds the weights and model_info.json.

    Raises:
        OpenError: the file is missing, damaged, or holds no such code.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            with zipfile.ZipFile(archived) as content:
                content.extractall(folder)
            package = folder / PACKAGE / "__init__.py"
            specification = importlib.util.spec_from_file_location(
                PACKAGE, package, submodule_search_locations=[str(package.parent)]
            )
            assert specification is not None
            sys.modules[PACKAGE] = importlib.util.module_from_spec(specification)
            model = importlib.import_module(f"{PACKAGE}.serving.loading").load(folder)
        except (OSError, zipfile.BadZipFile, ImportError, RuntimeError, KeyError) as error:
            raise OpenError(f"{archived} cannot be opened ({error}); `dvc repro archive` makes it again") from error
        finally:
            for module in [module for module in sys.modules if module.partition(".")[0] == PACKAGE]:
                del sys.modules[module]
        yield model, folder
