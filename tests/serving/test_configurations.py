"""The two configurations, as their files have them."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import torchserve
from helpers.small_model import HANDLERS, as_version

SEVEN = (HANDLERS / "digits" / "7.png").read_bytes()


@pytest.fixture(scope="module")
def production(int8_archive: Path, certificate: tuple[Path, Path]) -> Iterator[torchserve.Running]:
    """A server with the settings for production."""
    environment = {"MNIST_CERTIFICATE": str(certificate[0]), "MNIST_PRIVATE_KEY": str(certificate[1])}
    with torchserve.running(int8_archive, HANDLERS, config="production.properties", environment=environment) as server:
        yield server


def test_production_speaks_tls_alone(production: torchserve.Running) -> None:
    assert production.service.predict(SEVEN).json()["label"] == "7"
    for address in (production.service.inference, production.service.management, production.service.metrics):
        assert address.startswith("https://127.0.0.1:")
        plain = unencrypted(address)
        assert b"HTTP/1.1 2" not in plain, plain


@pytest.mark.parametrize("tokens", [{}, {"inference": {"key": "guessed"}, "management": {"key": "guessed"}}])
def test_production_answers_the_tokens_holder_alone(production: torchserve.Running, tokens: dict[str, object]) -> None:
    stranger = replace(production.service, tokens=tokens)
    assert stranger.predict(SEVEN).status_code == 400
    with pytest.raises(torchserve.ServingError, match="Token Authorization failed"):
        stranger.manage("POST", params={"url": "mnist.mar"})
    with pytest.raises(torchserve.ServingError, match="Token Authorization failed"):
        stranger.manage("DELETE", "/mnist")


def test_the_inference_token_does_not_manage(production: torchserve.Running) -> None:
    inference = production.service.tokens["inference"]
    with pytest.raises(torchserve.ServingError, match="Token Authorization failed"):
        replace(production.service, tokens={"management": inference}).manage("GET")


def test_the_keys_are_the_owners_alone(production: torchserve.Running) -> None:
    assert (production.folder / "key_file.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/evil.mar", "../evil.mar"])
def test_archives_come_from_the_model_store_alone(production: torchserve.Running, url: str) -> None:
    with pytest.raises(torchserve.ServingError, match=r"not match any allowed URL|Relative path|Invalid"):
        production.service.manage("POST", params={"url": url})


def test_production_rolls_out(production: torchserve.Running, int8_archive: Path, tmp_path: Path) -> None:
    new = as_version(int8_archive, tmp_path / "new.mar", "2")
    (tmp_path / "keys.json").write_text(json.dumps(production.service.tokens))
    command = [sys.executable, "-m", "mnist_pipeline.serving.rollout", str(new)]
    command += ["--model-store", str(production.folder / "model_store"), "--digits", str(HANDLERS / "digits")]
    command += ["--inference", production.service.inference, "--management", production.service.management]
    command += ["--keys", str(tmp_path / "keys.json"), "--certificate", str(production.service.verify)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert production.service.default_version() == "2"
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert again.stderr.strip().endswith("archive another model first")


def unencrypted(address: str) -> bytes:
    """What a server says to a request without TLS."""
    host, port = address.split("//")[1].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            return connection.recv(1000)
        except ConnectionError:
            return b""
