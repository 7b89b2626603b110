"""The processes of the FastAPI server: one serves, and a new one takes over from it without a request failing.

All listen on one socket. A new process opens the archive, checks it, and only then starts to accept; the old one stops
accepting, answers what it has accepted, and ends. A new process that cannot serve says why, and the old one stays.
"""

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

import cv2
import uvicorn
from fastapi import FastAPI

from mnist_pipeline.console import PipelineError
from mnist_pipeline.serving.api import create_app
from mnist_pipeline.serving.archived import OpenError, open_archive

DRAIN = 3.0  # seconds in which clients that keep a connection open may move to the new process
LOAD = 60.0  # seconds that a process may take to be ready
STOP = 40.0  # seconds after which a process that should end is killed
logger = logging.getLogger(__name__)


class ServeError(PipelineError):
    """The server cannot start; the message says why."""


@dataclass(frozen=True)
class Options:
    """What is served, and how.

    Attributes:
        archive: the .mar.
        page: a folder with index.html, or None.
        token: that clients must send; empty: none.
        certificate, key: PEM files for TLS, or None.
    """

    archive: Path
    page: Path | None = None
    token: str = ""
    certificate: Path | None = None
    key: Path | None = None


class Server(uvicorn.Server):
    """Uvicorn that says when it accepts requests, and lets clients move to another process before it ends."""

    def __init__(self, app: FastAPI, config: uvicorn.Config, parent: Connection) -> None:
        super().__init__(config)
        self.app, self.parent = app, parent

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(self.parent.fileno(), self.stop)  # where the parent ends, this does
        self.parent.send("")

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self.parent.fileno())
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in self.servers:
            listener.close()
        self.app.state.draining = True
        deadline = time.monotonic() + DRAIN
        while self.server_state.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)


def serve(options: Options, listener: socket.socket, parent: Connection) -> None:
    """Serve in this process, once the parent is told "" or the reason why not."""
    for number in (signal.SIGHUP, signal.SIGINT):  # a terminal sends them to all processes; the parent decides
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # while it loads: remove what was unpacked
    cv2.setNumThreads(1)  # the network's threads need the CPUs more
    try:
        with open_archive(options.archive) as (model, _):
            app = create_app(model, page=options.page, token=options.token)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            ws="none",  # no address of this application speaks WebSocket
            ssl_certfile=options.certificate,
            ssl_keyfile=options.key,
            timeout_graceful_shutdown=30,
        )
        Server(app, config, parent).run([listener])
    except ssl.SSLError as error:
        parent.send(f"{options.certificate} and {options.key} are no certificate and its private key, as PEM: {error}")
    except (OpenError, OSError) as error:
        parent.send(str(error))


@dataclass(frozen=True)
class Worker:
    """A process that serves.

    Attributes:
        process: the process.
        connection: ends when this process does, and then so does the other.
    """

    process: SpawnProcess
    connection: Connection

    def stop(self) -> None:
        """End it, once it has answered what it has accepted."""
        self.process.terminate()
        self.process.join(STOP)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Supervisor:
    """Starts processes that serve, and replaces them.

    Args:
        options: what is served.
        listener: a socket that listens.
    """

    def __init__(self, options: Options, listener: socket.socket) -> None:
        self.options, self.listener = options, listener
        self.requested: list[int] = []  # signals

    def run(self, ready: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP opens the archive again.

        Args:
            ready: is called when the first process serves.

        Raises:
            ServeError: it cannot serve.
        """
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.request)
        current = self.start()
        ready()
        while True:
            wait([read, current.process.sentinel])
            if {signal.SIGTERM, signal.SIGINT} & set(self.requested):
                self.listener.close()
                return current.stop()
            if signal.SIGHUP in self.requested:
                self.requested.clear()
                os.read(read, 4096)
                current = self.replace(current)
            elif not current.process.is_alive():
                logger.error("The serving process ended with status %s; another one starts", current.process.exitcode)
                current = self.start()

    def request(self, number: int, _: FrameType | None) -> None:
        """Remember a signal; `run` is woken by the pipe and acts on it."""
        self.requested.append(number)

    def replace(self, current: "Worker") -> "Worker":
        """Start a process with the archive as it is now, and end the current one; or keep it, and say why."""
        try:
            new = self.start()
        except ServeError as error:
            logger.error("The old model still serves: %s", error)
            return current
        logger.info("%s serves; the process before it answers what it has accepted", self.options.archive)
        current.stop()
        return new

    def start(self) -> "Worker":
        """Start a process, and wait until it serves. Raises ServeError with its reason."""
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(self.options, self.listener, theirs), name="serve")
        process.start()
        theirs.close()
        worker = Worker(process, ours)
        if not ours.poll(LOAD):
            worker.stop()
            raise ServeError(f"{self.options.archive} was not ready within {LOAD:g} s")
        try:
            reason = ours.recv()
        except EOFError:
            reason = "the serving process ended while it started; the lines above say why"
        if reason:
            worker.stop()
            raise ServeError(reason)
        return worker
