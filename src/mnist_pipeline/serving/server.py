"""The FastAPI server: one process with the socket and the network, and processes that read pictures.

SIGHUP opens the archive as it is now and exchanges the model; where it cannot be served, the old one stays and the log
says why. The archive is read once, into memory, so DVC may replace the file at any time.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import uvicorn
from starlette.types import Receive, Scope, Send

from mnist_pipeline.console import PipelineError
from mnist_pipeline.serving.api import Services, create_app
from mnist_pipeline.serving.archived import OpenError, open_archive
from mnist_pipeline.serving.loading import count_cpus
from mnist_pipeline.serving.readers import Readers

KEEP_ALIVE = 75  # seconds that an idle connection is kept: longer than the 60 s of most load balancers
LAST_ANSWERS = 30  # seconds in which the requests that were accepted are answered at the end
logger = logging.getLogger(__name__)


class ServeError(PipelineError):
    """The server cannot start; the message says why."""


@dataclass(frozen=True)
class Options:
    """What is served, and how."""

    archive: Path
    page: Path | None = None  # a folder with index.html
    token: str = ""  # that clients must send; empty: none
    certificate: Path | None = None  # PEM files for TLS
    key: Path | None = None


class Application:
    """Passes each request to the application of the model that is served now; one that has begun ends with its own."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.readers = Readers(count_cpus())
        self.services = Services(self.readers)
        self.current = self.open()

    def open(self) -> Callable[..., object]:
        """The application of the archive as it is now. Raises OpenError."""
        with open_archive(self.options.archive, beside_readers=True) as (model, _):
            return create_app(model, page=self.options.page, token=self.options.token, services=self.services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.current(scope, receive, send)  # type: ignore[misc]

    async def reload(self) -> None:
        """Serve the archive as it is now, or go on and log why not."""
        try:
            self.current = await asyncio.to_thread(self.open)
        except OpenError as error:
            logger.error("The old model still serves: %s", error)
        else:
            logger.info("%s serves now", self.options.archive)
            await asyncio.to_thread(gc.collect)  # the old application is a circle of references, with 100 MB


def serve(options: Options, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, or until the terminal is closed that the server was started in.

    `listener` listens already; `ready` is called when requests are answered. Raises OpenError and ServeError.
    """
    for number in (signal.SIGTERM, signal.SIGINT):  # until uvicorn handles them, and when it raises them again
        signal.signal(number, lambda *_: sys.exit())
    has_terminal_to_lose = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and has_terminal()  # nohup ignores it
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    cv2.setNumThreads(1)  # the network's threads need the CPUs more
    application = Application(options)
    config = configure(application, options)
    server = uvicorn.Server(config)
    reloads: set[asyncio.Task[None]] = set()

    def hang_up() -> None:
        """Exchange the model, or end where the terminal was closed."""
        if has_terminal_to_lose and not has_terminal():
            server.should_exit = True
            return
        reloads.add(task := asyncio.create_task(application.reload()))
        task.add_done_callback(reloads.discard)

    async def run() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)
        await application.readers.start()
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            ready()
        try:
            await serving
        finally:
            await application.readers.stop()

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run())


def configure(application: Application, options: Options) -> uvicorn.Config:
    """uvicorn's settings. Raises ServeError where the certificate cannot be used."""
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",  # no address of this application speaks WebSocket
        ssl_certfile=options.certificate,
        ssl_keyfile=options.key,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=LAST_ANSWERS,
    )
    try:
        config.load()
    except OSError as error:
        reason = f"are no certificate and its private key, as PEM: {error}"
        raise ServeError(f"{options.certificate} and {options.key} {reason}") from None
    return config


def has_terminal() -> bool:
    """Whether this process has a terminal; the kernel takes it away when that is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
