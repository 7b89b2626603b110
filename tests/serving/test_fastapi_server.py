"""The FastAPI server: what it refuses, its processes, and how it takes another model."""

import base64
import gc
import io
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from helpers import ROOT, hostile, small_model
from helpers.fastapi_server import Running, running
from helpers.load import DIGITS, load
from PIL import Image

from mnist_pipeline.serving.api import create_app
from mnist_pipeline.serving.archived import open_archive

SEVEN = DIGITS["7"]
LARGE_SEVEN = small_model.encoded(Image.open(io.BytesIO(SEVEN)).resize((280, 280)), "JPEG")  # which a reader reads


def url(server: Running, path: str = "/predictions/mnist") -> str:
    return server.service.inference + path


def connect(server: Running, seconds: float) -> socket.socket:
    """A connection of a client that sends what it likes."""
    host, port = server.service.inference.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), seconds)


def test_it_needs_no_pytorch(int8_archive: Path) -> None:
    check = (
        "import sys; from pathlib import Path; from mnist_pipeline.serve import open_model\n"
        f"open_model(Path({str(int8_archive)!r}))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_model_that_is_served_no_more_takes_no_memory(int8_archive: Path) -> None:
    with open_archive(int8_archive) as (model, _):
        app = create_app(model)
    gone = weakref.ref(model)
    del model, app
    gc.collect()
    assert gone() is None


def test_it_says_that_it_is_alive_ready_and_what_it_serves(fastapi_server: Running, int8_archive: Path) -> None:
    info = small_model.info_of(int8_archive)
    assert requests.get(url(fastapi_server, "/ping"), timeout=10).json() == {"status": "Healthy"}
    assert requests.get(url(fastapi_server, "/ready"), timeout=10).status_code == 200
    model = requests.get(url(fastapi_server, "/model"), timeout=10).json()
    assert model == {"weights": info["weights"], "class_names": info["class_names"]}
    sagemaker = requests.post(url(fastapi_server, "/invocations"), data=SEVEN, timeout=10)
    assert sagemaker.json() == fastapi_server.service.predict(SEVEN).json()


def test_it_describes_itself_to_programs(fastapi_server: Running) -> None:
    description = requests.get(url(fastapi_server, "/openapi.json"), timeout=10).json()
    assert {"/predictions/mnist", "/v1/models/mnist:predict", "/invocations"} < set(description["paths"])
    assert description["servers"] == [{"url": "."}]


def test_a_token_is_wanted_where_one_is_set(int8_archive: Path) -> None:
    with running(int8_archive, environment={"MNIST_TOKEN": "secret\n"}) as server:
        for headers in ({}, {"Authorization": "Bearer guessed"}, {"Authorization": "secret"}):
            refused = requests.post(url(server), data=SEVEN, headers=headers, timeout=10)
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert requests.get(url(server, "/metrics"), headers=headers, timeout=10).status_code == 401
        assert requests.get(url(server, "/ready"), timeout=10).ok
        answered = requests.post(url(server), data=SEVEN, headers={"Authorization": "bearer secret"}, timeout=10)
        assert answered.json()["label"] == "7"


def test_tls(int8_archive: Path, certificate: tuple[Path, Path]) -> None:
    options = ("--certificate", str(certificate[0]), "--private-key", str(certificate[1]))
    with running(int8_archive, *options, certificate=certificate[0]) as server:
        assert server.service.inference.startswith("https://")
        assert server.service.predict(SEVEN).json()["label"] == "7"


HEAD = "POST /predictions/mnist HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\n"


def test_a_long_body_of_unknown_length_is_refused(fastapi_server: Running) -> None:
    parts = (bytes(1_000_000) for _ in range(17))
    assert requests.post(url(fastapi_server), data=parts, timeout=30).status_code == 413


def test_clients_that_send_nothing_take_no_room_from_the_others(fastapi_server: Running) -> None:
    with ExitStack() as connections:
        for _ in range(300):
            connections.enter_context(connect(fastapi_server, 10)).sendall(HEAD.format(16_000_000).encode())
        assert fastapi_server.service.predict(SEVEN).json()["label"] == "7"


def test_a_body_that_stops_coming_is_cut_off(fastapi_server: Running) -> None:
    with connect(fastapi_server, 60) as connection:
        connection.sendall(HEAD.format(16777216).encode() + bytes(16777215))
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def test_an_upload_that_breaks_off_is_no_stack_trace(fastapi_server: Running) -> None:
    with connect(fastapi_server, 60) as connection:
        connection.sendall(HEAD.format(1000).encode())
    until(lambda: 'mnist_requests_total{Status="499"}' in show_metrics(fastapi_server))
    assert "Traceback" not in fastapi_server.log


@pytest.mark.parametrize("name", hostile.REQUESTS)
def test_a_request_that_is_made_to_hurt_is_answered_and_its_neighbours_too(fastapi_server: Running, name: str) -> None:
    body = hostile.REQUESTS[name]()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(fastapi_server.service.predict, body, timeout=30.0) for _ in range(4)]
        neighbours = [fastapi_server.service.predict(SEVEN).json().get("label") for _ in range(20)]
    assert neighbours == ["7"] * 20
    assert {answer.result().status_code for answer in answers} <= {200, 400, 413, 422, 503}


def test_whose_client_has_gone_is_not_read(fastapi_server: Running) -> None:
    """Sixteen pictures of two seconds each; what has not begun is given up, so the next one does not wait for it."""
    body = hostile.draw_digits_in_doubt()
    with ExitStack() as connections:
        for _ in range(16):
            connections.enter_context(connect(fastapi_server, 60)).sendall(HEAD.format(len(body)).encode() + body)
        until(lambda: "mnist_waiting_requests 1" in show_metrics(fastapi_server))
    # After 5 seconds of waiting it would be 503.
    assert fastapi_server.service.predict(LARGE_SEVEN).json()["label"] == "7"


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        *(("HEAD", path, 200, None) for path in ("/ping", "/ready", "/model", "/metrics", "/openapi.json", "/")),
        ("GET", "/predictions/mnist", 405, "POST, PUT"),
        ("OPTIONS", "/invocations", 405, "POST, PUT"),
        *(("POST", path, 405, "GET, HEAD") for path in ("/ping", "/openapi.json", "/", "/app.js")),
        ("GET", "/nothing", 404, None),
        ("GET", "/predictions/mnist/", 404, None),
        ("GET", "/%00", 404, None),
    ],
)
def test_each_address_says_what_it_takes(
    fastapi_server: Running, method: str, path: str, status: int, allowed: str | None
) -> None:
    answer = requests.request(method, url(fastapi_server, path), timeout=10, allow_redirects=False)
    assert (answer.status_code, answer.headers.get("Allow")) == (status, allowed)
    if method == "HEAD":
        assert answer.content == b""
    elif status >= 400:
        assert answer.json()["status"] == status


def test_sigterm_answers_what_was_accepted(int8_archive: Path) -> None:
    many = json.dumps({"images": [base64.b64encode(SEVEN).decode()] * 200}).encode()
    with running(int8_archive) as server, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(server.service.predict, many) for _ in range(4)]
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        assert [answer.result().status_code for answer in answers] == [200] * 4
        assert server.process.wait(30) == 0


def rename(name: str) -> Callable[[bytes], bytes]:
    """Change the weights' name in model_info.json, and nothing else."""

    def change(content: bytes) -> bytes:
        return json.dumps(json.loads(content) | {"weights": f"{name}.pth"}).encode()

    return change


def test_new_archives_take_over_under_load_and_a_bad_one_does_not(int8_archive: Path, tmp_path: Path) -> None:
    served = Path(shutil.copy(int8_archive, tmp_path / "served.mar"))
    with running(served) as server, load(server.service) as clients:
        for name in ("2", "3", "4"):
            new = small_model.changed(int8_archive, tmp_path / "new.mar", {"model_info.json": rename(name)})
            new.replace(served)
            server.process.send_signal(signal.SIGHUP)
            until(lambda name=name: weights(server) == f"{name}.pth")  # type: ignore[misc]
        served.write_bytes(b"no archive")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "The old model still serves: " in server.log)
        assert "served.mar cannot be opened" in server.log
        assert weights(server) == "4.pth"
        clients.until(lambda: clients.results[200] >= 1000)
    assert clients.failed == 0, clients.results


def test_what_was_unpacked_does_not_stay(int8_archive: Path, tmp_path: Path) -> None:
    with running(int8_archive, environment={"TMPDIR": str(tmp_path)}) as server:
        assert list(tmp_path.glob("*/")) == []
        server.process.send_signal(signal.SIGHUP)
        until(lambda: any(tmp_path.glob("*/")))
        server.process.send_signal(signal.SIGTERM)  # while it unpacks
        assert server.process.wait(60) == 0
    assert list(tmp_path.glob("*/")) == []


def test_killed_readers_come_back(int8_archive: Path) -> None:
    with running(int8_archive) as server:
        readers = psutil.Process(server.process.pid).children()
        for reader in readers:
            reader.kill()
        answers = [server.service.predict(LARGE_SEVEN).status_code for _ in range(len(readers) + 5)]
        assert set(answers[:-5]) <= {200, 503}  # the latter where it is killed while it reads
        assert answers[-5:] == [200] * 5


def test_where_the_server_dies_its_readers_end(int8_archive: Path) -> None:
    with running(int8_archive) as server:
        readers = psutil.Process(server.process.pid).children()
        server.process.kill()
        assert psutil.wait_procs(readers, 20)[1] == []


def test_a_closed_terminal_ends_it(int8_archive: Path) -> None:
    """In a session with a terminal of its own, which closes; without one SIGHUP is a roll-out."""
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the tests have it ignored
        os.execv(sys.executable, [sys.executable, "-m", "mnist_pipeline.serve", str(int8_archive), "--port", "0"])
    try:
        said = b""
        while b"Ctrl-C" not in said:
            said += os.read(terminal, 1000)
        os.close(terminal)
        psutil.Process(child).wait(30)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def weights(server: Running) -> Any:
    return requests.get(url(server, "/model"), timeout=30).json()["weights"]


def show_metrics(server: Running) -> str:
    return requests.get(url(server, "/metrics"), timeout=10).text


def until(happens: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.05)


def test_names_what_it_cannot_serve(int8_archive: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mar").write_bytes(b"no archive")
    for options, message in (
        ([tmp_path / "missing.mar"], "OpenError: .*missing.mar cannot be opened .*No such file"),
        ([tmp_path / "bad.mar"], "OpenError: .*bad.mar cannot be opened"),
        ([int8_archive, "--certificate", "README.md"], "ServeError: TLS needs both"),
        (
            [int8_archive, "--certificate", "README.md", "--private-key", "LICENSE"],
            "ServeError: README.md and LICENSE are no certificate and its private key, as PEM",
        ),
    ):
        command = [sys.executable, "-m", "mnist_pipeline.serve", *options, "--port", "0"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
        assert ended.returncode == 1
        assert re.match(message, ended.stderr), ended.stderr
