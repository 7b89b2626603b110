"""Roll-outs and a dying worker, under load, on a real TorchServe."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import small_model, torchserve
from helpers.load import CLIENTS, DIGITS, load, until
from helpers.small_model import HANDLERS

from mnist_pipeline.serving import rollout


@pytest.fixture(scope="module")
def server(int8_archive: Path) -> Iterator[torchserve.Running]:
    """One that these tests may change."""
    with torchserve.running(int8_archive, HANDLERS) as running:
        yield running


@pytest.mark.extras  # ten thousand requests
def test_three_roll_outs_under_load_lose_no_request(
    server: torchserve.Running, int8_archive: Path, tmp_path: Path
) -> None:
    with load(server.service) as clients:
        for version in ("2", "3", "4"):
            archive = small_model.as_version(int8_archive, tmp_path / "new.mar", version)
            rollout.roll_out(server.service, archive, server.folder / "model_store", DIGITS)
            assert server.service.default_version() == version
        until(lambda: clients.results.total() >= 10_000)
    assert clients.failed == 0, clients.results
    assert server.service.versions() == ["4"]
    assert [file.name for file in (server.folder / "model_store").iterdir()] == ["mnist.mar"]


def test_a_version_that_misreads_leaves_the_old_one(
    server: torchserve.Running, int8_archive: Path, tmp_path: Path
) -> None:
    def swap_names(info: bytes) -> bytes:
        return info.replace(b'"0",\n    "1"', b'"1",\n    "0"')

    old = server.service.default_version()
    bad = small_model.changed(int8_archive, tmp_path / "bad.mar", {"model_info.json": swap_names})
    bad = small_model.as_version(bad, tmp_path / "named.mar", "66")
    reason = r"the answer to a known 0 is .*\"label\": \"1\""
    with load(server.service) as clients, pytest.raises(rollout.RolloutError, match=reason):
        rollout.roll_out(server.service, bad, server.folder / "model_store", DIGITS)
    assert server.service.versions() == [old]
    assert clients.failed == 0, clients.results
    assert clients.results[200] > 0


def test_a_killed_worker_comes_back_by_itself(server: torchserve.Running) -> None:
    with load(server.service) as clients:
        until(lambda: clients.results[200] >= 200)
        (state,) = server.service.manage("GET", "/mnist")
        os.kill(state["workers"][0]["pid"], signal.SIGKILL)
        answered = clients.results[200]
        until(lambda: clients.results[200] >= answered + 200)
    # What the worker was reading is lost: at most a batch, and never more than there are clients.
    assert clients.failed <= CLIENTS, clients.results
