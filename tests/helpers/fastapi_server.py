"""A real `python -m mnist_pipeline.serve` for the tests to talk to."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mnist_pipeline.serving.torchserve import Service


@dataclass(frozen=True)
class Running:
    """A server that this process started: how to call it, the process, and the file of what it says."""

    service: Service
    process: subprocess.Popen[str]
    errors: Path

    @property
    def log(self) -> str:
        return self.errors.read_text()


@contextmanager
def running(
    archive: Path, *options: str, environment: Mapping[str, str] | None = None, stdin: int | None = None
) -> Iterator[Running]:
    """Start the server on a free port, wait until it is ready, and stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="mnist-") as folder:
        errors = Path(folder) / "errors"
        with errors.open("w") as written:
            process = subprocess.Popen(
                [sys.executable, "-m", "mnist_pipeline.serve", str(archive), "--port", "0", *options],
                env=os.environ | dict(environment or {}),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=written,
                text=True,
            )
        assert process.stdout
        try:
            said = re.search(r"(http\S*)/predictions/mnist", process.stdout.readline())
            assert said, errors.read_text()
            yield Running(Service(said[1], "", said[1]), process, errors)
        finally:
            process.terminate()
            process.wait(60)
            process.stdout.close()
