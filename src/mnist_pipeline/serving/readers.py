"""Processes that read pictures under a deadline, so that no picture can hold up the server or another picture.

The kernel ends a process whose picture takes too long, wherever it is, and another one takes its place. `Readers` is
the server's side; run as a module, this file is such a process: requests and results pass through its pipes.
"""

import asyncio
import contextlib
import fcntl
import os
import pickle
import resource
import signal
import struct
import sys
import time
from collections import Counter
from typing import Any, BinaryIO

import cv2

from mnist_pipeline.reading import TooMuchWork
from mnist_pipeline.serving.steps import Read

MORE_SECONDS = 1.0  # of the clock, beyond the processor time that a picture has
MEMORY = 1024**3  # bytes of a process; what the limits on pixels allow needs less
WAITING = 256  # readings that wait
LENGTH = struct.Struct("!Q")
NICE = 5  # the process that answers comes first
# glibc keeps so much freed memory and takes large arrays from it: asking the kernel each time takes a fifth longer.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**26)}


class Busy(Exception):
    """Too much waits already, or a reader has ended; the request may be sent again."""


class Readers:
    """Reader processes, one more than there are cores, of which no client can have all."""

    def __init__(self, cores: int) -> None:
        self.count = cores + 1
        self.idle: list[asyncio.subprocess.Process] = []
        self.active: Counter[str] = Counter()  # readers by client
        self.waiting: list[tuple[str, asyncio.Future[asyncio.subprocess.Process]]] = []
        self.tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Start the processes; they are ready a moment later."""
        self.idle = [await start_reader() for _ in range(self.count)]

    async def read(self, wanted: Read, client: str, start_before: float) -> tuple[Any, float]:
        """Have something read: its result or ValueError (TooMuchWork after `wanted.seconds`), and the seconds it took.

        Raises Busy where no reader is free before `start_before`, by the loop's clock, or the reader was killed.
        """
        reader = await self.acquire(client, start_before)
        # The reading goes on where the request is cancelled: what has begun cannot be taken back.
        task = asyncio.create_task(self.exchange(reader, wanted, client))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return await asyncio.shield(task)

    async def acquire(self, client: str, start_before: float) -> asyncio.subprocess.Process:
        """Wait for a reader. Raises Busy."""
        if len(self.waiting) >= WAITING:
            raise Busy
        future: asyncio.Future[asyncio.subprocess.Process] = asyncio.get_running_loop().create_future()
        place = client, future
        self.waiting.append(place)
        self.hand_out()
        try:
            async with asyncio.timeout_at(start_before):
                return await future
        except (TimeoutError, asyncio.CancelledError) as ended:
            if place in self.waiting:
                self.waiting.remove(place)
            elif not future.cancelled():  # it came too late
                self.release(client, future.result())
            if isinstance(ended, TimeoutError):
                raise Busy from None
            raise

    def hand_out(self) -> None:
        """Give idle readers to those who wait, in their order, but for clients that have their share."""
        for place in list(self.waiting):
            client, future = place
            if self.idle and self.active[client] < self.share(client):
                self.waiting.remove(place)
                if not future.done():
                    self.active[client] += 1
                    future.set_result(self.idle.pop())

    def share(self, client: str) -> int:
        """The readers that a client may have now: half of them where others read too, else one less than all."""
        clients = {*self.active, *(waiting for waiting, _ in self.waiting)}
        return (self.count + 1) // 2 if clients - {client} else self.count - 1

    def release(self, client: str, reader: asyncio.subprocess.Process, *, is_new: bool = False) -> None:
        """Take a reader back."""
        self.active[client] -= 1
        self.active += Counter()  # forgets clients without readers
        self.idle.insert(0 if is_new else len(self.idle), reader)  # a new one is taken last: it is starting yet
        self.hand_out()

    async def exchange(self, reader: asyncio.subprocess.Process, wanted: Read, client: str) -> tuple[Any, float]:
        """Send a reader its work, and return what `read` does; a reader that has ended is replaced."""
        is_new = reader.returncode is not None  # it was killed while it had nothing to do
        try:
            if is_new:
                reader = await start_reader()
            assert reader.stdin
            assert reader.stdout
            message = pickle.dumps(wanted)
            reader.stdin.write(LENGTH.pack(len(message)) + message)
            await reader.stdin.drain()
            (length,) = LENGTH.unpack(await reader.stdout.readexactly(LENGTH.size))
            answer: tuple[Any, float] = pickle.loads(await reader.stdout.readexactly(length))
        except (OSError, RuntimeError, asyncio.IncompleteReadError):  # RuntimeError: uvloop's word for a closed pipe
            status = await reader.wait()
            reader, is_new = await start_reader(), True
            if status in (-signal.SIGPROF, -signal.SIGALRM):
                reason = f"it takes longer to read than {wanted.seconds:.1f} s, which is all that it has"
                return TooMuchWork(reason), wanted.seconds
            raise Busy from None
        finally:
            self.release(client, reader, is_new=is_new)
        return answer

    async def stop(self) -> None:
        """End all processes."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for reader in self.idle:
            with contextlib.suppress(ProcessLookupError):
                reader.kill()
            await reader.wait()


async def start_reader() -> asyncio.subprocess.Process:
    """Start a process that runs `main`; it ends with this one, whose pipe then closes."""
    arguments = [sys.executable, "-m", "mnist_pipeline.serving.readers"]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe, env=os.environ | ALLOCATOR)


def main() -> None:
    """Read what comes, until the server ends."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all processes; the server decides
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICE)
    cv2.setNumThreads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with contextlib.suppress(OSError):  # where the pipe is a socket
        fcntl.fcntl(0, fcntl.F_SETPIPE_SZ, 2**20)  # so that a photograph comes at once
    requests = sys.stdin.buffer
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what a library prints must not come between
        while length := requests.read(LENGTH.size):
            answer(requests.read(*LENGTH.unpack(length)), answers)


def answer(message: bytes, answers: BinaryIO) -> None:
    """Read what a message asks for, and write the result or the error; a bug ends this process, with its traceback."""
    wanted: Read = pickle.loads(message)
    # At the end of either time the kernel ends this process: a Python signal handler would wait for C code to return.
    signal.setitimer(signal.ITIMER_PROF, max(wanted.seconds, 0.01))
    signal.setitimer(signal.ITIMER_REAL, wanted.seconds + MORE_SECONDS)
    start = time.process_time()
    try:
        result = wanted.read(wanted.data)
    except ValueError as error:
        result = error
    except MemoryError:
        result = TooMuchWork(f"it takes more memory to read than {MEMORY // 1024**2} MiB, which is all that it has")
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    content = pickle.dumps((result, time.process_time() - start))
    answers.write(LENGTH.pack(len(content)) + content)
    answers.flush()


if __name__ == "__main__":
    main()
