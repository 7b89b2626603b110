"""A real `python -m mnist_pipeline.serve` for the tests to talk to."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from helpers.torchserve import Running
from mnist_pipeline.serving.torchserve import Service


@contextmanager
def running(
    archive: Path, *options: str, environment: Mapping[str, str] | None = None, stdin: int | None = None
) -> Iterator[Running]:
    """Start the server on a free port, wait until it is ready, and stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="mnist-") as name:
        folder = Path(name)
        with (folder / "output.log").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "mnist_pipeline.serve", str(archive), "--port", "0", *options],
                env=os.environ | dict(environment or {}),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=output,
            )
        assert process.stdout
        try:
            said = re.search(r"(http\S*)/predictions/mnist", process.stdout.readline().decode())
            assert said, (folder / "output.log").read_text()
            yield Running(Service(said[1], "", said[1]), folder, process)
        finally:
            process.terminate()
            process.wait(60)
            process.stdout.close()
