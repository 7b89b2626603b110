"""Readings that take long or end their process, for the readers of a test; they import little, as those do."""

import os
import signal
import time


def burn(data: bytes, seconds: float) -> str:
    """Compute for so long; returns the process that did."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return f"{os.getpid()}"


def wait(data: bytes, seconds: float) -> str:
    """Do nothing for so long; returns the process that did."""
    time.sleep(seconds)
    return f"{os.getpid()}"


def kill(data: bytes) -> None:
    """End the process, as the kernel does where memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)
