"""Clients that ask a server all the time, while a test does something to it."""

import collections
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import requests

from helpers import torchserve
from helpers.small_model import HANDLERS

DIGITS = {file.stem: file.read_bytes() for file in sorted((HANDLERS / "digits").glob("*.png"))}
CLIENTS = 16


class Load:
    """Clients that send one request after the other; counts what came back: a status, or an error's name."""

    def __init__(self, service: torchserve.Service) -> None:
        self.url = f"{service.inference}/predictions/mnist"
        self.results: collections.Counter[int | str] = collections.Counter()
        self.lock = threading.Lock()
        self.stopping = threading.Event()

    def send_until_stopped(self) -> None:
        with requests.Session() as session:
            while not self.stopping.is_set():
                try:
                    result: int | str = session.post(self.url, data=DIGITS["7"], timeout=30).status_code
                except requests.RequestException as error:
                    result = type(error).__name__
                with self.lock:
                    self.results[result] += 1

    @property
    def failed(self) -> int:
        return self.results.total() - self.results[200]


@contextmanager
def load(service: torchserve.Service) -> Iterator[Load]:
    clients = Load(service)
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(CLIENTS):
            pool.submit(clients.send_until_stopped)
        try:
            yield clients
        finally:
            clients.stopping.set()


def until(happens: Callable[[], bool], seconds: float = 600.0) -> None:
    """Wait until it happens; fail where it takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.05)
