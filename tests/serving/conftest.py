"""Real servers for the tests to talk to, each started once and left as it was found."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT, torchserve
from helpers import fastapi_server as fastapi_server_module
from helpers.small_model import HANDLERS


@pytest.fixture(scope="session")
def torchserve_server(int8_archive: Path) -> Iterator[torchserve.Running]:
    """TorchServe with the development settings."""
    with torchserve.running(int8_archive, HANDLERS) as running:
        yield running


@pytest.fixture(scope="session")
def fastapi_server(int8_archive: Path) -> Iterator[fastapi_server_module.Running]:
    """The FastAPI server with the page."""
    with fastapi_server_module.running(int8_archive, "--page", str(ROOT / "demo")) as running:
        yield running


@pytest.fixture(scope="session", params=["torchserve_server", "fastapi_server"])
def server(request: pytest.FixtureRequest) -> torchserve.Running | fastapi_server_module.Running:
    """Both servers in turn."""
    running: torchserve.Running | fastapi_server_module.Running = request.getfixturevalue(request.param)
    return running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
