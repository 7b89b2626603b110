"""Drives the steps of requests without waiting: readers read pictures, and a thread computes images in batches."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mnist_pipeline.serving.answer import Model, Response
from mnist_pipeline.serving.readers import Busy, Readers
from mnist_pipeline.serving.requests import Body, is_json
from mnist_pipeline.serving.steps import Images, Logits, Read, read_now

MAX_BATCH = 32  # images that the network takes at a time
# While readers are at work, fewer images than these wait so long for others, where all come from readers: alone each
# takes twice the processor time.
FEW, GATHER_SECONDS = 4, 0.1
WAIT_SECONDS = 5.0  # after which a picture that waits for a reader is refused
LIST_WAIT_SECONDS = 8.0  # after which a list is refused at its next step
SMALL_BYTES, SMALL_SIDE = 16 * 1024, 64  # a PNG of this size costs less to read here than to pass on
SMALL_LIST = 256 * 1024  # bytes of JSON that are parsed here
PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


@dataclass(frozen=True)
class Job:
    """Images that wait for the network, MAX_BATCH at most."""

    model: Model
    images: Images
    computed: asyncio.Future[Logits]
    may_gather: bool


class Work:
    """Reads and computes for all requests of a server; without readers in a thread, which has no deadline."""

    def __init__(self, readers: Readers | None = None, count_batch: Callable[[int], None] = lambda size: None) -> None:
        self.readers, self.count_batch = readers, count_batch
        self.first: deque[Job] = deque()  # of single pictures
        self.later: deque[Job] = deque()  # of lists, which fill up batches and take the pauses
        self.thread = ThreadPoolExecutor(1, "network")
        self.computing: asyncio.Task[None] | None = None

    def count_waiting(self) -> int:
        """How many readings and computations wait."""
        return len(self.first) + len(self.later) + (len(self.readers.waiting) if self.readers else 0)

    async def answer(self, model: Model, body: Body, client: str) -> Response:
        """The model's response to a client's request; raises Busy where it would wait for too long."""
        loop = asyncio.get_running_loop()
        is_list = is_json(body)
        start_before = loop.time() + (LIST_WAIT_SECONDS if is_list else WAIT_SECONDS)
        queue, may_gather = self.later if is_list else self.first, False
        steps = model.answer_request(body)
        try:
            wanted = steps.send(None)
            while True:
                if is_list:
                    await asyncio.sleep(0)  # between two pictures others have their turn
                    if loop.time() > start_before:
                        raise Busy
                if not isinstance(wanted, Read):
                    wanted = steps.send(await self.compute(model, wanted, queue, may_gather=may_gather))
                    continue
                may_gather = not is_cheap(wanted.data)
                if not may_gather:
                    result = read_now(wanted)
                elif self.readers is None:
                    result = await asyncio.to_thread(read_now, wanted)
                else:
                    result = await self.readers.read(wanted, client, start_before)
                wanted = steps.send(result)
        except StopIteration as end:
            response: Response = end.value
            return response

    async def compute(self, model: Model, images: Images, queue: deque[Job], *, may_gather: bool = False) -> Logits:
        """A network's logits of images, in as many batches as they need."""
        create_future = asyncio.get_running_loop().create_future
        pieces = np.split(images, range(MAX_BATCH, len(images), MAX_BATCH))
        jobs = [Job(model, piece, create_future(), may_gather) for piece in pieces]
        queue.extend(jobs)
        if self.computing is None or self.computing.done():
            self.computing = asyncio.create_task(self.compute_waiting())
        return np.concatenate([await job.computed for job in jobs])

    async def compute_waiting(self) -> None:
        """Compute batches until nothing waits."""
        loop = asyncio.get_running_loop()
        while True:
            await self.gather()
            if not (batch := self.next_batch()):
                return
            images = np.concatenate([job.images for job in batch])
            self.count_batch(len(images))
            model = batch[0].model
            network = model.quiet_network if self.readers and self.readers.active else model.network
            try:
                logits = await loop.run_in_executor(self.thread, network, images)
            except Exception as error:  # a bug: the clients get status 500, and the server goes on
                for job in batch:
                    if not job.computed.done():
                        job.computed.set_exception(error)
                continue
            ends = np.cumsum([len(job.images) for job in batch])
            for job, own_logits in zip(batch, np.split(logits, ends[:-1]), strict=True):
                if not job.computed.done():
                    job.computed.set_result(own_logits)

    async def gather(self) -> None:
        """Wait for more images where they are few, readers are at work, and nobody waits for a small picture."""
        deadline = asyncio.get_running_loop().time() + GATHER_SECONDS
        while self.readers and self.readers.active and asyncio.get_running_loop().time() < deadline:
            jobs = [*self.first, *self.later]
            images = sum(len(job.images) for job in jobs)
            if not 0 < images < FEW or not all(job.may_gather for job in jobs):
                return
            await asyncio.sleep(0.002)

    def next_batch(self) -> list[Job]:
        """Take what waits for one model, MAX_BATCH images at most; what nobody waits for any more is dropped."""
        batch: list[Job] = []
        count = 0
        for queue in (self.first, self.later):
            while queue and count + len(queue[0].images) <= MAX_BATCH:
                if batch and queue[0].model is not batch[0].model:
                    return batch
                job = queue.popleft()
                if not job.computed.done():
                    batch.append(job)
                    count += len(job.images)
        return batch


def is_cheap(data: Body) -> bool:
    """Whether what a client sent is a small PNG, or JSON that is parsed in no time."""
    if is_json(data):
        return len(data) <= SMALL_LIST
    assert isinstance(data, bytes | bytearray)  # what is parsed already is JSON
    sides = [int.from_bytes(data[i : i + 4]) for i in (16, 20)]
    return data.startswith(PNG_START) and len(data) <= SMALL_BYTES and max(sides) <= SMALL_SIDE
