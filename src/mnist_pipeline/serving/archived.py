"""Open an archive: its model, answered by the installed code."""

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnist_pipeline.console import PipelineError
from mnist_pipeline.serving import loading
from mnist_pipeline.serving.answer import Model


class OpenError(PipelineError):
    """An archive that is missing, damaged or of another version; the message says which and what to do."""


@contextmanager
def open_archive(archived: Path, *, beside_readers: bool = False) -> Iterator[tuple[Model, Path]]:
    """Unpack a .mar to a temporary folder and load its model on the CPU: the model and the folder. Raises OpenError."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            with zipfile.ZipFile(archived) as content:
                content.extractall(folder)
            model = loading.load(folder, beside_readers=beside_readers)
        except (OSError, zipfile.BadZipFile, RuntimeError, KeyError, ValueError) as error:
            raise OpenError(f"{archived} cannot be opened ({error}); `dvc repro archive` makes it again") from error
        yield model, folder
