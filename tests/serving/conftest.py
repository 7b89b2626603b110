"""Real servers for the tests to talk to, each started once and left as it was found."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, fastapi_server, torchserve
from helpers.small_model import HANDLERS
from helpers.torchserve import Running


@pytest.fixture(scope="session", name="torchserve_server")
def start_torchserve(int8_archive: Path) -> Iterator[Running]:
    """TorchServe with the development settings."""
    with torchserve.running(int8_archive, HANDLERS) as running:
        yield running


@pytest.fixture(scope="session", name="fastapi_server")
def start_fastapi_server(int8_archive: Path) -> Iterator[Running]:
    """The FastAPI server with the page."""
    with fastapi_server.running(int8_archive, "--page", str(ROOT / "demo")) as running:
        yield running


@pytest.fixture(scope="session", params=["torchserve_server", "fastapi_server"])
def server(request: pytest.FixtureRequest) -> Any:
    """Both servers in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
