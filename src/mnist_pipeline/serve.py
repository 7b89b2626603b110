"""Serve an archive with FastAPI:  python -m mnist_pipeline.serve model_store/mnist.mar

Each option can also be given by an environment variable, which its help names. SIGHUP opens the archive as it is now
and exchanges the model without a request failing; where it cannot be served, the old one stays and the log says why.
SIGTERM and Ctrl-C answer what was accepted, and end. So does the end of the terminal that the server was started in.
"""

import argparse
import asyncio
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import uvicorn
from fastapi import FastAPI

from mnist_pipeline import console
from mnist_pipeline.serving.answer import Model
from mnist_pipeline.serving.api import create_app
from mnist_pipeline.serving.archived import OpenError, open_archive
from mnist_pipeline.serving.loading import count_cpus
from mnist_pipeline.serving.readers import Readers

logger = logging.getLogger(__name__)


class ServeError(console.PipelineError):
    """The server cannot start; the message says why."""


def main() -> None:
    """Run the command line."""
    options = parse_options()
    page = options.page if (options.page / "index.html").is_file() else None
    with listen(options.host, options.port) as listener:
        host, port = listener.getsockname()[:2]
        address = f"{'https' if options.certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        what = f"Draw a digit at {address}/ or send" if page else "Send"
        ready = f"{what} pictures to {address}/predictions/mnist. Ctrl-C stops it."
        for number in (signal.SIGTERM, signal.SIGINT):  # until uvicorn handles them, and when it raises them again
            signal.signal(number, lambda *_: sys.exit())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        cv2.setNumThreads(1)  # the network's threads need the CPUs more
        token, readers = read_token(options.token), Readers(count_cpus())
        app = create_app(open_model(options.archive), page=page, token=token, readers=readers)
        config = configure(app, options.certificate, options.private_key)
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(run(uvicorn.Server(config), listener, readers, partial(reload, app, options.archive), ready))


def parse_options() -> argparse.Namespace:
    """The options of the command line, and where they are not given those of the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def add(name: str, kind: type, default: object, text: str, **more: str) -> None:
        variable = f"MNIST_{name.lstrip('-').upper().replace('-', '_')}"
        given = os.environ.get(variable, "").strip() or default  # a file or a Kubernetes secret may end with a line
        parser.add_argument(name, type=kind, default=given, help=f"{text} ({variable})", **more)  # type: ignore[arg-type]

    add("archive", Path, "model_store/mnist.mar", "the model to serve", nargs="?")
    add("--host", str, "127.0.0.1", "the address to listen at; 0.0.0.0 is every one")
    add("--port", int, 8080, "0 takes a free one")
    add("--page", Path, "demo", "a folder with a page to show, where it exists")
    add("--certificate", Path, None, "a PEM file, for TLS")
    add("--private-key", Path, None, "a PEM file, for TLS")
    text = "what clients must send as Authorization: Bearer TOKEN; better given by the variable (MNIST_TOKEN)"
    parser.add_argument("--token", default=os.environ.get("MNIST_TOKEN", ""), help=text)
    return parser.parse_args()


def read_token(text: str) -> str:
    """The token without the white space around it. Raises ServeError where no header could carry it."""
    token = text.strip()
    if (text and not token) or not re.fullmatch("[ -~]*", token):
        raise ServeError("--token (MNIST_TOKEN) must be printable ASCII characters, and more than white space")
    return token


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ServeError."""
    if not host.strip():
        raise ServeError("--host (MNIST_HOST) is empty; 0.0.0.0 listens at every address")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ServeError(f"--host {host!r} --port {port} cannot be opened: {error}; 0 takes a free port") from None


def open_model(archive: Path) -> Model:
    """The model of the archive as it is now, in memory. Raises OpenError."""
    with open_archive(archive, beside_readers=True) as (model, _):
        return model


def reload(app: FastAPI, archive: Path) -> None:
    """Serve the archive as it is now, or go on and log why not. What has begun ends with the old model."""
    try:
        app.state.model = open_model(archive)
    except OpenError as error:
        logger.error("The old model still serves: %s", error)
    else:
        logger.info("%s serves now", archive)


def configure(app: FastAPI, certificate: Path | None, key: Path | None) -> uvicorn.Config:
    """uvicorn's settings. Raises ServeError where the certificate cannot be used."""
    if bool(certificate) != bool(key):
        raise ServeError("TLS needs both, the certificate and its private key; only one is given")
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",  # no address of this application speaks WebSocket
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_keep_alive=75,  # seconds; longer than the 60 of most load balancers
        timeout_graceful_shutdown=30,  # seconds in which the requests that were accepted are answered
    )
    try:
        config.load()
    except OSError as error:
        raise ServeError(f"{certificate} and {key} are no certificate and its private key, as PEM: {error}") from None
    return config


async def run(
    server: uvicorn.Server, listener: socket.socket, readers: Readers, reload: Callable[[], None], ready: str
) -> None:
    """Serve until a signal ends it; `ready` is printed when requests are answered."""
    loop = asyncio.get_running_loop()
    had_terminal = os.isatty(0)

    def hang_up() -> None:
        if had_terminal and not os.isatty(0):  # it was closed
            server.should_exit = True
        else:
            loop.run_in_executor(None, reload)

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    await readers.start()
    print(ready, flush=True)
    try:
        await server.serve([listener])
    finally:
        await readers.stop()


if __name__ == "__main__":
    console.run(main)
