"""Requests that wait are answered in one batch, by one thread; what would wait for too long is refused at once."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from mnist_pipeline.serving.answer import BUSY, is_json
from mnist_pipeline.serving.archived import ArchivedModel, ArchivedResponse

MAX_BATCH = 32  # requests in a batch
MAX_WAITING = 256  # requests that wait for a batch
MAX_BYTES = 256 * 1024**2  # of bodies that are being received, wait or are answered
MAX_SECONDS = 5.0  # that a request may wait


class Busy(Exception):
    """Too much waits already; the request may be sent again."""


@dataclass(frozen=True)
class Job:
    """A request that waits."""

    body: bytes
    explain: bool
    answered: "asyncio.Future[ArchivedResponse]"
    deadline: float  # by time.monotonic


class Batcher:
    """Answers requests in batches, in the order in which they come.

    Args:
        model: is called in a thread of its own, so that requests are received in the meantime.
        count_batch: is told how many requests each batch answered.
    """

    def __init__(self, model: ArchivedModel, count_batch: Callable[[int], None]) -> None:
        self.model, self.count_batch = model, count_batch
        # Single pictures do not wait behind lists and explanations: where both wait, the batches take turns.
        self.jobs: dict[bool, deque[Job]] = {False: deque(), True: deque()}  # by whether they take long
        self.took_long = False
        self.bytes = 0
        self.wake = asyncio.Event()

    @contextmanager
    def admit(self) -> Iterator[Callable[[int], None]]:
        """Admit a request before its body is received. Raises Busy.

        Returns:
            A function that must be told the bytes of each part that comes; it raises Busy as well. So a client that
            sends slowly, or nothing, takes no room from the others.
        """
        held = 0

        def receive(length: int) -> None:
            nonlocal held
            if self.bytes + length > MAX_BYTES:
                raise Busy
            held, self.bytes = held + length, self.bytes + length

        self.check_room()
        try:
            yield receive
        finally:
            self.bytes -= held

    def check_room(self) -> None:
        """Raise Busy where too much waits."""
        if self.count_waiting() >= MAX_WAITING:
            raise Busy

    async def answer(self, body: bytes, explain: bool) -> ArchivedResponse:
        """Wait for the answer to an admitted request. Raises Busy where it would take too long."""
        self.check_room()
        job = Job(body, explain, asyncio.get_running_loop().create_future(), time.monotonic() + MAX_SECONDS)
        self.jobs[takes_long(job)].append(job)
        self.wake.set()
        return await job.answered

    async def run(self) -> None:
        """Answer what waits, until cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "model") as thread:
            while True:
                await self.wake.wait()
                if batch := self.next_batch():
                    bodies, explain = [job.body for job in batch], [job.explain for job in batch]
                    try:
                        answers = await loop.run_in_executor(thread, self.model.answer, bodies, explain)
                    except Exception as error:  # a bug: the clients get status 500, and the server goes on
                        for job in batch:
                            fail(job, error)
                    else:
                        self.deliver(batch, answers)
                if not self.count_waiting():
                    self.wake.clear()

    def count_waiting(self) -> int:
        """How many requests wait for a batch."""
        return sum(map(len, self.jobs.values()))

    def next_batch(self) -> list[Job]:
        """Take the requests that waited longest; refuse those that waited too long, forget whose clients have gone."""
        self.took_long = not self.took_long if self.jobs[not self.took_long] else self.took_long
        jobs = self.jobs[self.took_long]
        batch: list[Job] = []
        while jobs and len(batch) < MAX_BATCH:
            job = jobs.popleft()
            if time.monotonic() > job.deadline:
                fail(job, Busy())
            elif not job.answered.done():
                batch.append(job)
        return batch

    def deliver(self, batch: Sequence[Job], answers: Sequence[ArchivedResponse]) -> None:
        """Give the answers to those who wait; for what the batch had no time for, the next one comes."""
        late = [job for job, answer in zip(batch, answers, strict=True) if answer.status == BUSY.status]
        self.count_batch(len(batch) - len(late))
        for job, answer in zip(batch, answers, strict=True):
            if answer.status != BUSY.status and not job.answered.done():
                job.answered.set_result(answer)
        for job in reversed(late):
            self.jobs[takes_long(job)].appendleft(job)


def takes_long(job: Job) -> bool:
    """Whether a request asks for more than one picture's digits."""
    return job.explain or is_json(job.body)


def fail(job: Job, error: Exception) -> None:
    """Raise an error where somebody waits for a request's answer."""
    if not job.answered.done():
        job.answered.set_exception(error)
