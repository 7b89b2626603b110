"""How long plain pictures wait while other connections send requests that are made to hurt.

The requests of tests/helpers/hostile.py, and uploads that stop, come from 127.0.0.1 on CONNECTIONS connections; a PNG
of 28x28 and a photograph of 640x480 are sent from 127.0.0.2 in turn. First each hostile request is sent alone.
"""

import io
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np
import psutil
import requests
from common import ROOT, describe_machine, write
from helpers import hostile
from helpers.fastapi_server import running
from PIL import Image
from requests.adapters import HTTPAdapter

CONNECTIONS, STALLED = 8, 16
SECONDS = 30.0
SMALL = (ROOT / "handlers/digits/7.png").read_bytes()


class From(HTTPAdapter):
    """Connects from an address of this machine."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, source_address=(self.address, 0), **options)


def main() -> None:
    bodies = {name: make() for name, make in hostile.REQUESTS.items()}
    with running(ROOT / "model_store/mnist.mar") as server:
        url = server.service.inference
        memory = [measure_memory(server.process.pid)]
        alone = {name: ask(requests.Session(), url, name, body) for name, body in bodies.items()}
        for name, (status, took) in alone.items():
            print(f"{name:16} {len(bodies[name]) / 1024:9.0f} KiB: {status} after {took:5.2f} s")
        stop = threading.Event()
        answers: list[tuple[int, float]] = []
        threads = [threading.Thread(target=attack, args=(url, bodies, k, stop, answers)) for k in range(CONNECTIONS)]
        threads += [threading.Thread(target=stall, args=(url, stop)) for _ in range(STALLED)]
        for thread in threads:
            thread.start()
        time.sleep(2)
        waits = {"small": list[tuple[int, float]](), "photograph": list[tuple[int, float]]()}
        session = requests.Session()
        session.mount("http://", From("127.0.0.2"))
        pictures = {"small": SMALL, "photograph": make_photograph()}
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for name, picture in pictures.items():
                waits[name].append(ask(session, url, name, picture))
            memory.append(measure_memory(server.process.pid))
        stop.set()
        for thread in threads:
            thread.join()
    content: dict[str, Any] = {
        "alone_worst_seconds": max(seconds for _, seconds in alone.values()),
        "alone_seconds": {name: seconds for name, (_, seconds) in alone.items()},
        "hostile_answers": count(answers),
        "hostile_worst_seconds": max(seconds for _, seconds in answers),
        "memory_mib": {"idle": memory[0], "most": max(memory)},
        "machine": describe_machine(),
    }
    for name, each in waits.items():
        median, worst = float(np.median([wait for _, wait in each])), max(wait for _, wait in each)
        content[name] = {"answers": count(each), "median_seconds": round(median, 3), "worst_seconds": worst}
        print(f"{name}: {count(each)}; median {median:.3f} s, worst {worst:.2f} s")
    print(f"hostile: {content['hostile_answers']}; worst {content['hostile_worst_seconds']:.2f} s")
    print(f"memory: {content['memory_mib']}")
    write("hostile", content)


def measure_memory(process: int) -> int:
    """Mebibytes that the server's processes have for themselves."""
    server, found = psutil.Process(process), 0
    for each in (server, *server.children()):
        with suppress(psutil.NoSuchProcess):  # a reader that has just been ended
            found += each.memory_full_info().uss
    return int(found // 1024**2)


def ask(session: requests.Session, url: str, name: str, body: bytes) -> tuple[int, float]:
    """The status of an answer, and the seconds that it took."""
    headers = {"content-type": "application/x-www-form-urlencoded"} if name == "form" else {}
    start = time.perf_counter()
    status = session.post(f"{url}/predictions/mnist", data=body, headers=headers, timeout=120).status_code
    return status, round(time.perf_counter() - start, 3)


def attack(
    url: str, bodies: dict[str, bytes], first: int, stop: threading.Event, answers: list[tuple[int, float]]
) -> None:
    """Send all bodies in turn, beginning with another one than the other threads."""
    session, names = requests.Session(), [*bodies]
    turn = first * len(names) // CONNECTIONS
    while not stop.is_set():
        answers.append(ask(session, url, name := names[turn % len(names)], bodies[name]))
        turn += 1


def stall(url: str, stop: threading.Event) -> None:
    """Send all of a body but one byte, wait for the answer, and begin again."""
    host, port = url.removeprefix("http://").split(":")
    while not stop.is_set():
        with socket.create_connection((host, int(port)), 60) as connection:
            connection.sendall(b"POST /predictions/mnist HTTP/1.1\r\nHost: here\r\nContent-Length: 16777216\r\n\r\n")
            try:
                connection.sendall(bytes(16777215))
                connection.recv(1000)
            except OSError:
                continue  # refused, and closed


def make_photograph() -> bytes:
    """A 7 on uneven paper, 640x480, as JPEG."""
    paper = np.clip(np.random.default_rng(0).normal(200, 6, (480, 640)), 0, 255).astype(np.uint8)
    digit = 255 - np.asarray(Image.open(io.BytesIO(SMALL)).resize((300, 300))).astype(int)
    paper[90:390, 170:470] = np.minimum(paper[90:390, 170:470], np.maximum(digit, 60))
    file = io.BytesIO()
    Image.fromarray(paper).save(file, "JPEG", quality=90)
    return file.getvalue()


def count(answers: list[tuple[int, float]]) -> dict[str, int]:
    """Answers by status."""
    statuses = [status for status, _ in answers]
    return {str(status): statuses.count(status) for status in sorted(set(statuses))}


if __name__ == "__main__":
    main()
