"""How every stage speaks to the person who runs it."""

import logging
import os
import sys
import traceback
from collections.abc import Callable


class PipelineError(Exception):
    """What the user can fix: settings, data, a model or a server; the message says what would be right."""


def run(stage: Callable[[], None]) -> None:
    """Run a stage, and end the process with status 1 where it fails and 130 where Ctrl-C interrupts it.

    An error that the user can fix (a PipelineError) and one of the machine (an OSError, such as a full disk) are
    printed as `Name: message` on stderr, with MNIST_PIPELINE_DEBUG=1 after the stack trace. Any other error is a
    bug and always has its stack trace.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    try:
        stage()
        status = 0
    except KeyboardInterrupt:
        print("\nInterrupted. `dvc repro` resumes where this stopped.", file=sys.stderr)
        status = 130
    except (PipelineError, OSError) as error:
        if os.environ.get("MNIST_PIPELINE_DEBUG") == "1":
            traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        status = 1
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # leave now: joining the workers' threads could take seconds
