"""How requests wait for readers and for the network, with a network and clients that a test holds up."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache, partial

import numpy as np
import pytest
from helpers.slow_readings import burn, kill, wait
from helpers.small_model import FORM, HANDLERS

from mnist_pipeline.reading import TooMuchWork, read_digits
from mnist_pipeline.serving import readers, receiving, work
from mnist_pipeline.serving.answer import Images, Logits, Model, Read
from mnist_pipeline.serving.readers import Busy, Readers
from mnist_pipeline.serving.receiving import Admission
from mnist_pipeline.serving.work import Work, is_cheap

pytestmark = pytest.mark.anyio
SEVEN = (HANDLERS / "digits/7.png").read_bytes()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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


@pytest.fixture
def network() -> Iterator[SlowNetwork]:
    slow = SlowNetwork()
    yield slow
    slow.may_answer.set()  # so that its thread ends


def compute(shared: Work, network: SlowNetwork, value: int, count: int = 1) -> asyncio.Task[Logits]:
    """Ask for the logits of so many images of one value; more than one are those of a list."""
    images = np.full((count, 1, 28, 28), value, np.uint8)
    return asyncio.create_task(shared.compute(model_of(network), images, shared.first if count == 1 else shared.later))


async def until(happens: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happens():
            await asyncio.sleep(0.01)


async def test_what_waits_is_computed_in_one_batch_single_pictures_first(network: SlowNetwork) -> None:
    shared = Work()
    first = compute(shared, network, 1)
    await until(lambda: len(network.batches) == 1)
    many, *singles = compute(shared, network, 2, 70), compute(shared, network, 3), compute(shared, network, 4)
    await until(lambda: shared.count_waiting() == 5)  # the 70 wait in three pieces
    network.may_answer.set()
    assert [float(logits[0, 0]) for logits in await asyncio.gather(first, *singles)] == [1, 3, 4]
    assert (await many).tolist() == [[2]] * 70
    assert network.batches == [[1], [3, 4], [2] * 32, [2] * 32, [2] * 6]


async def test_a_batch_is_of_one_model(network: SlowNetwork) -> None:
    shared, other = Work(), SlowNetwork()
    network.may_answer.set()
    other.may_answer.set()
    await asyncio.gather(*[compute(shared, each, 1) for each in (network, other, network)])
    assert (network.batches, other.batches) == ([[1], [1]], [[1]])


async def test_what_nobody_waits_for_is_not_computed_and_a_bug_is_the_error_of_its_batch(network: SlowNetwork) -> None:
    shared = Work()
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
    assert network.batches == [[255], [3]]


def test_what_costs_little_is_read_in_the_servers_process() -> None:
    wide = SEVEN[:16] + bytes([0, 0, 1, 0]) + SEVEN[20:]
    long_list = b'{"images": [' + b" " * work.SMALL_LIST
    assert all(is_cheap(data) for data in (SEVEN, b'{"images": []}'))
    assert not any(is_cheap(data) for data in (SEVEN + bytes(work.SMALL_BYTES), wide, b"", long_list))


@pytest.fixture
async def two_readers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Readers]:
    """Those of a machine with one core; they can import helpers.slow_readings."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr(readers, "MORE_SECONDS", 0.5)
    processes = Readers(1)
    await processes.start()
    yield processes
    await processes.stop()


def later(seconds: float = 20.0) -> float:
    return asyncio.get_running_loop().time() + seconds


@pytest.mark.parametrize("slow", [partial(burn, seconds=60), partial(wait, seconds=60)])
async def test_a_reading_that_takes_too_long_is_ended_and_nobody_else_notices(
    two_readers: Readers, slow: Callable[[bytes], str]
) -> None:
    quick = Read(partial(wait, seconds=0), b"")
    hostile = asyncio.create_task(two_readers.read(Read(slow, b"", 0.3), "a", later()))
    await asyncio.sleep(0.1)
    other, _ = await two_readers.read(quick, "b", later())
    error, seconds = await hostile
    assert (type(error), seconds) == (TooMuchWork, 0.3)
    assert "longer to read than 0.3 s" in str(error)
    assert len(two_readers.idle) == two_readers.count
    assert other in [(await two_readers.read(quick, "a", later()))[0] for _ in range(4)]


@pytest.mark.parametrize(
    ("cores", "active", "share"), [(1, {}, 1), (1, {"b": 1}, 1), (2, {"a": 2}, 2), (7, {"a": 6}, 7), (7, {"b": 1}, 4)]
)
def test_where_others_read_a_client_has_half_of_the_readers(cores: int, active: dict[str, int], share: int) -> None:
    processes = Readers(cores)
    processes.active.update(active)
    assert processes.share("a") == share


async def test_who_waits_too_long_for_a_reader_or_goes_gives_up_the_place(two_readers: Readers) -> None:
    slow = asyncio.create_task(two_readers.read(Read(partial(wait, seconds=1), b""), "a", later()))
    await until(lambda: two_readers.active["a"] == 1)
    with pytest.raises(Busy):
        await two_readers.read(Read(read_digits, SEVEN), "a", later(0.1))
    gone = asyncio.create_task(two_readers.read(Read(kill, b""), "a", later()))
    await until(lambda: len(two_readers.waiting) == 1)
    gone.cancel()
    await slow
    assert (two_readers.waiting, two_readers.active) == ([], {})
    assert (await two_readers.read(Read(read_digits, SEVEN), "a", later()))[0]


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
