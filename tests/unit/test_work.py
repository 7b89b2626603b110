"""How requests wait for readers and for the network, with a network and clients that a test holds up."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pytest
from helpers.slow_readings import burn, kill, wait
from helpers.small_model import FORM, HANDLERS

from mnist_pipeline.reading import NotAnImage, TooMuchWork, read_digits
from mnist_pipeline.serving import readers, receiving, work
from mnist_pipeline.serving.answer import Images, Logits, Model, Read
from mnist_pipeline.serving.readers import Busy, Readers
from mnist_pipeline.serving.receiving import Admission
from mnist_pipeline.serving.work import Work, is_cheap

SEVEN = (HANDLERS / "digits/7.png").read_bytes()


class SlowNetwork:
    """Answers with the first pixel of each image, once it may."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_answer = threading.Event()

    def __call__(self, images: Images) -> Logits:
        self.batches.append(images[:, 0, 0, 0].tolist())
        assert self.may_answer.wait(10)
        if (images == 255).all():
            raise RuntimeError("a bug")
        return images[:, 0, 0, :1].astype(np.float32)


@lru_cache
def model_of(network: SlowNetwork) -> Model:
    return Model({**FORM, "reader": "picture", "class_names": ["a", "b"]}, network)


def images(value: int, count: int = 1) -> Images:
    return np.full((count, 1, 28, 28), value, np.uint8)


def compute(shared: Work, network: SlowNetwork, value: int) -> asyncio.Task[Logits]:
    return asyncio.create_task(shared.compute(model_of(network), images(value), shared.first))


def run(scenario: Callable[[Work, SlowNetwork], Awaitable[None]]) -> SlowNetwork:
    network = SlowNetwork()

    async def play() -> None:
        try:
            await asyncio.wait_for(scenario(Work(), network), 30)
        finally:
            network.may_answer.set()

    asyncio.run(play())
    return network


def test_what_waits_is_computed_in_one_batch_single_pictures_first() -> None:
    async def scenario(shared: Work, network: SlowNetwork) -> None:
        first = compute(shared, network, 1)
        await until(lambda: len(network.batches) == 1)
        many = asyncio.create_task(shared.compute(model_of(network), images(2, 70), shared.later))
        singles = [compute(shared, network, value) for value in (3, 4)]
        await until(lambda: shared.count_waiting() == 5)  # the 70 wait in three pieces
        network.may_answer.set()
        assert [float(logits[0, 0]) for logits in await asyncio.gather(first, *singles)] == [1, 3, 4]
        assert (await many).tolist() == [[2]] * 70

    assert run(scenario).batches == [[1], [3, 4], [2] * 32, [2] * 32, [2] * 6]


def test_a_batch_is_of_one_model() -> None:
    async def scenario(shared: Work, network: SlowNetwork) -> None:
        network.may_answer.set()
        other = SlowNetwork()
        other.may_answer.set()
        await asyncio.gather(*[compute(shared, each, 1) for each in (network, other, network)])
        assert other.batches == [[1]]

    assert run(scenario).batches == [[1], [1]]


def test_what_nobody_waits_for_is_not_computed_and_a_bug_is_the_error_of_its_batch() -> None:
    async def scenario(shared: Work, network: SlowNetwork) -> None:
        broken = compute(shared, network, 255)
        await until(lambda: len(network.batches) == 1)
        gone = compute(shared, network, 2)
        await until(lambda: shared.count_waiting() == 1)
        gone.cancel()
        await asyncio.sleep(0)
        network.may_answer.set()
        with pytest.raises(RuntimeError, match="a bug"):
            await broken
        assert (await compute(shared, network, 3)).tolist() == [[3]]

    assert run(scenario).batches == [[255], [3]]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (SEVEN, True),
        (SEVEN + bytes(work.SMALL_BYTES), False),
        (SEVEN[:16] + bytes([0, 0, 1, 0]) + SEVEN[20:], False),
        (b"", False),
        (b'{"images": []}', True),
        (b'{"images": [' + b" " * work.SMALL_LIST, False),
    ],
)
def test_what_costs_little_is_read_in_the_servers_process(data: bytes, expected: bool) -> None:
    assert is_cheap(data) == expected


def run_readers(count: int, scenario: Callable[[Readers], Awaitable[None]]) -> None:
    async def play() -> None:
        processes = Readers(count)
        await processes.start()
        try:
            await scenario(processes)
        finally:
            await processes.stop()

    asyncio.run(play())


def later(seconds: float = 20.0) -> float:
    return asyncio.get_running_loop().time() + seconds


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the readers import helpers.slow_readings."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


def test_a_reader_returns_what_is_read_and_what_is_wrong() -> None:
    async def scenario(processes: Readers) -> None:
        (item,), seconds = await processes.read(Read(read_digits, SEVEN), "a", later())
        assert np.array_equal(item.image, read_digits(SEVEN)[0].image)
        assert 0 < seconds < 2
        error, _ = await processes.read(Read(read_digits, b"seven"), "a", later())
        assert isinstance(error, NotAnImage)
        assert "are no JPEG" in str(error)

    run_readers(1, scenario)


@pytest.mark.parametrize("slow", [partial(burn, seconds=60), partial(wait, seconds=60)])
def test_a_reading_that_takes_too_long_is_ended_and_nobody_else_notices(
    slow: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MORE_SECONDS", 0.5)

    async def scenario(processes: Readers) -> None:
        quick = Read(partial(wait, seconds=0), b"")
        hostile = asyncio.create_task(processes.read(Read(slow, b"", 0.3), "a", later()))
        await asyncio.sleep(0.1)
        other, _ = await processes.read(quick, "b", later())
        error, seconds = await hostile
        assert (type(error), seconds) == (TooMuchWork, 0.3)
        assert "longer to read than 0.3 s" in str(error)
        assert len(processes.idle) == processes.count
        assert other in [(await processes.read(quick, "a", later()))[0] for _ in range(4)]

    run_readers(1, scenario)


def test_a_killed_reader_costs_its_picture_alone() -> None:
    async def scenario(processes: Readers) -> None:
        with pytest.raises(Busy):
            await processes.read(Read(kill, b""), "a", later())
        for reader in processes.idle:  # while they have nothing to do
            os.kill(reader.pid, signal.SIGKILL)
            await reader.wait()
        assert (await processes.read(Read(read_digits, SEVEN), "a", later()))[0]

    run_readers(1, scenario)


@pytest.mark.parametrize(
    ("cores", "active", "share"), [(1, {}, 1), (1, {"b": 1}, 1), (2, {"a": 2}, 2), (7, {"a": 6}, 7), (7, {"b": 1}, 4)]
)
def test_where_others_read_a_client_has_half_of_the_readers(cores: int, active: dict[str, int], share: int) -> None:
    processes = Readers(cores)
    processes.active.update(active)
    assert processes.share("a") == share


def test_who_waits_too_long_for_a_reader_or_goes_gives_up_the_place() -> None:
    async def scenario(processes: Readers) -> None:
        slow = asyncio.create_task(processes.read(Read(partial(wait, seconds=1), b""), "a", later()))
        await until(lambda: processes.active["a"] == 1)
        with pytest.raises(Busy):
            await processes.read(Read(read_digits, SEVEN), "a", later(0.1))
        gone = asyncio.create_task(processes.read(Read(kill, b""), "a", later()))
        await until(lambda: len(processes.waiting) == 1)
        gone.cancel()
        await slow
        assert (processes.waiting, processes.active) == ([], {})
        assert (await processes.read(Read(read_digits, SEVEN), "a", later()))[0]

    run_readers(1, scenario)


def test_bodies_take_room_as_they_come_and_one_client_has_half_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    admission, half = Admission(), receiving.MAX_BYTES // 2
    with admission.admit("a") as first, admission.admit("a") as second, admission.admit("b") as other:
        first(half - 1)
        second(1)
        with pytest.raises(Busy):
            second(1)
        other(half)
        with admission.admit("c") as third, pytest.raises(Busy):
            third(1)
    with admission.admit("a") as first:  # those before have left
        first(half)
        monkeypatch.setattr(receiving, "MAX_REQUESTS", 1)
        with pytest.raises(Busy), admission.admit("b"):
            pass
    assert (admission.requests, admission.bytes) == (0, {})


async def until(happens: Callable[[], bool]) -> None:
    for _ in range(1000):
        if happens():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError
