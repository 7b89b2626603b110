"""How waiting requests become batches, with a model that a test holds up."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from mnist_pipeline.serving import batching
from mnist_pipeline.serving.answer import Body, Model, Response
from mnist_pipeline.serving.batching import Batcher, Busy


class SlowModel(Model):
    """Answers each request with its own body, once it may; the first of a batch alone where `late` is set."""

    def __init__(self) -> None:
        super().__init__(
            {"reader": "picture", "class_names": ["a", "b"]}, lambda digits: np.zeros((len(digits), 2), np.float32)
        )
        self.batches: list[list[Body]] = []
        self.may_answer = threading.Event()
        self.late = False

    def answer(self, bodies: Sequence[Body], explain: Sequence[bool] = ()) -> list[Response]:
        self.batches.append(list(bodies))
        assert self.may_answer.wait(10)
        if b"broken" in bodies:
            raise RuntimeError("a bug")
        return [
            Response(503 if self.late and k else 200, body) for k, body in enumerate(bodies) if isinstance(body, bytes)
        ]


def run(scenario: Callable[[Batcher, SlowModel, list[int]], Awaitable[None]]) -> SlowModel:
    """Play a scenario with a batcher that runs; the list gets the size of each batch."""
    model, sizes = SlowModel(), list[int]()

    async def play() -> None:
        batcher = Batcher(model, sizes.append)  # type: ignore[arg-type]
        task = asyncio.create_task(batcher.run())
        try:
            await scenario(batcher, model, sizes)
        finally:
            model.may_answer.set()
            task.cancel()

    asyncio.run(play())
    return model


def ask(batcher: Batcher, *bodies: bytes) -> list["asyncio.Task[Any]"]:
    return [asyncio.create_task(batcher.answer(body, False)) for body in bodies]


def test_what_waits_is_answered_in_one_batch_and_each_gets_its_own_answer() -> None:
    async def scenario(batcher: Batcher, model: SlowModel, sizes: list[int]) -> None:
        first = ask(batcher, b"first")
        await until(lambda: len(model.batches) == 1)
        others = ask(batcher, b"a", b"b", b"c")
        await until(lambda: batcher.count_waiting() == 3)
        model.may_answer.set()
        answers = await asyncio.gather(*first, *others)
        assert [answer.body for answer in answers] == [b"first", b"a", b"b", b"c"]
        assert sizes == [1, 3]

    assert run(scenario).batches == [[b"first"], [b"a", b"b", b"c"]]


def test_what_a_batch_has_no_time_for_comes_first_in_the_next() -> None:
    async def scenario(batcher: Batcher, model: SlowModel, _: list[int]) -> None:
        model.late = True
        model.may_answer.set()
        answers = await asyncio.gather(*ask(batcher, b"a", b"b", b"c"))
        assert [(answer.status, answer.body) for answer in answers] == [(200, b"a"), (200, b"b"), (200, b"c")]

    assert run(scenario).batches == [[b"a", b"b", b"c"], [b"b", b"c"], [b"c"]]


def test_single_pictures_do_not_wait_behind_lists() -> None:
    async def scenario(batcher: Batcher, model: SlowModel, _: list[int]) -> None:
        lists = ask(batcher, b"{1", b"{2")
        await until(lambda: len(model.batches) == 1)
        lists += ask(batcher, b"{3")
        singles = ask(batcher, b"single")
        await until(lambda: batcher.count_waiting() == 2)
        model.may_answer.set()
        await asyncio.gather(*lists, *singles)

    assert run(scenario).batches == [[b"{1", b"{2"], [b"single"], [b"{3"]]


def test_what_waits_too_long_is_refused_and_whose_client_left_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(batcher: Batcher, model: SlowModel, _: list[int]) -> None:
        first = ask(batcher, b"first")
        await until(lambda: len(model.batches) == 1)
        (gone,) = ask(batcher, b"gone")
        monkeypatch.setattr(batching, "MAX_SECONDS", -1.0)
        (late,) = ask(batcher, b"late")
        await until(lambda: batcher.count_waiting() == 2)
        gone.cancel()
        model.may_answer.set()
        with pytest.raises(Busy):
            await late
        await asyncio.gather(*first)

    assert run(scenario).batches == [[b"first"]]


def test_a_bug_is_the_error_of_its_batch_and_the_next_is_answered() -> None:
    async def scenario(batcher: Batcher, model: SlowModel, _: list[int]) -> None:
        model.may_answer.set()
        with pytest.raises(RuntimeError, match="a bug"):
            await batcher.answer(b"broken", False)
        assert (await batcher.answer(b"good", False)).body == b"good"

    run(scenario)


def test_no_more_is_admitted_than_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(batcher: Batcher, model: SlowModel, _: list[int]) -> None:
        monkeypatch.setattr(batching, "MAX_WAITING", 2)
        tasks = ask(batcher, b"first")
        await until(lambda: len(model.batches) == 1)
        tasks += ask(batcher, b"a", b"b")
        await until(lambda: batcher.count_waiting() == 2)
        with pytest.raises(Busy), batcher.admit():
            pass
        with pytest.raises(Busy):
            await batcher.answer(b"c", False)
        model.may_answer.set()
        await asyncio.gather(*tasks)

    run(scenario)


def test_bodies_take_room_as_they_come() -> None:
    batcher = Batcher(SlowModel(), print)  # type: ignore[arg-type]
    with batcher.admit() as receive, batcher.admit() as receive_other:
        receive(batching.MAX_BYTES - 1)
        receive_other(1)
        with pytest.raises(Busy):
            receive_other(1)
    with batcher.admit() as receive:  # those before have left
        receive(batching.MAX_BYTES)


async def until(happens: Callable[[], bool]) -> None:
    for _ in range(1000):
        if happens():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError
