"""What `make rollout` says where there is nothing to roll out to."""

import sys

import pytest
from helpers.small_model import HANDLERS

from mnist_pipeline.serving import rollout, torchserve


def test_a_server_that_does_not_run_is_named_with_the_command_that_starts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (port,) = torchserve.free_ports(1)
    address = f"http://127.0.0.1:{port}"
    arguments = ["new.mar", "--management", address, "--digits", str(HANDLERS / "digits")]
    monkeypatch.setattr(sys, "argv", ["rollout", *arguments])
    with pytest.raises(rollout.RolloutError, match=rf"no TorchServe answers at {address}; .*torchserve --start"):
        rollout.main()
