"""How `make rollout` finds its server, and what it says where there is none."""

import sys

import pytest
import requests
from helpers import torchserve
from helpers.small_model import HANDLERS

from mnist_pipeline.serving import rollout


def test_a_server_that_does_not_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = torchserve.free_ports(1)
    address = f"http://127.0.0.1:{port}"
    arguments = ["new.mar", "--management", address, "--digits", str(HANDLERS / "digits")]
    monkeypatch.setattr(sys, "argv", ["rollout", *arguments])
    with pytest.raises(rollout.RolloutError, match=rf"no TorchServe answers at {address}, .*torchserve --start"):
        rollout.main()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_request_to_the_loopback_goes_through_no_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    (closed,) = torchserve.free_ports(1)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed}")
    with pytest.raises(requests.exceptions.ConnectionError) as raised:  # nothing listens there either
        torchserve.Service(management=f"http://{host}:{closed}").manage("GET")
    assert not isinstance(raised.value, requests.exceptions.ProxyError)
    with pytest.raises(requests.exceptions.ProxyError):
        torchserve.Service(management="http://mnist.example").manage("GET")
