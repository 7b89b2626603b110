"""How `make rollout` finds its server, and what it says where there is none."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests
from helpers import torchserve
from helpers.small_model import HANDLERS

from mnist_pipeline.serving import rollout


def test_a_server_that_does_not_run_is_named_with_the_command_that_starts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (port,) = torchserve.free_ports(1)
    address = f"http://127.0.0.1:{port}"
    arguments = ["new.mar", "--management", address, "--digits", str(HANDLERS / "digits")]
    monkeypatch.setattr(sys, "argv", ["rollout", *arguments])
    with pytest.raises(rollout.RolloutError, match=rf"no TorchServe answers at {address}, .*torchserve --start"):
        rollout.main()


def test_junk_is_no_known_digit(tmp_path: Path) -> None:
    for name in ("._7.png", "Thumbs.db", ".DS_Store", "7.png"):
        (tmp_path / name).write_bytes(name.encode())
    assert rollout.read_known_digits(tmp_path) == {"7": b"7.png"}


class Greeter(BaseHTTPRequestHandler):
    """Answers each GET with an empty list."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_request_to_the_loopback_goes_through_no_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (closed,) = torchserve.free_ports(1)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed}")
    with HTTPServer(("127.0.0.1", 0), Greeter) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        assert torchserve.Service(management=f"http://{host}:{server.server_port}").manage("GET") == []
        thread.join()
    with pytest.raises(requests.exceptions.ProxyError):
        torchserve.Service(management="http://mnist.example").manage("GET")
