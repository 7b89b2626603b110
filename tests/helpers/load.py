"""Clients that ask a server all the time, while a test does something to it."""

import collections
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests

from helpers import torchserve
from helpers.small_model import HANDLERS

DIGITS = {file.stem: file.read_bytes() for file in sorted((HANDLERS / "digits").glob("*.png"))}
CLIENTS = 16
HANGS = 30.0  # seconds without an answer


class Load:
    """Clients that send one request after the other; counts what came back: a status, or an error's name."""

    def __init__(self, service: torchserve.Service) -> None:
        self.service = service
        self.results: collections.Counter[int | str] = collections.Counter()
        self.lock = threading.Lock()
        self.stopping = threading.Event()

    def client(self) -> None:
        url, picture = f"{self.service.inference}/predictions/mnist", DIGITS["7"]
        with requests.Session() as session:
            while not self.stopping.is_set():
                try:
                    result: int | str = session.post(url, data=picture, timeout=HANGS).status_code
                except requests.RequestException as error:
                    result = type(error).__name__
                with self.lock:
                    self.results[result] += 1

    def until(self, enough: Callable[[], bool], seconds: float = 600.0) -> None:
        deadline = time.monotonic() + seconds
        while not enough():
            assert time.monotonic() < deadline, f"not within {seconds} s: {self.results}"
            time.sleep(0.05)

    @property
    def failed(self) -> int:
        return self.results.total() - self.results[200]


@contextmanager
def load(service: torchserve.Service) -> Iterator[Load]:
    clients = Load(service)
    threads = [threading.Thread(target=clients.client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        clients.stopping.set()
        for thread in threads:
            thread.join()
