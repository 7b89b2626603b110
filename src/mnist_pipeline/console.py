"""How every stage speaks to the person who runs it."""

import logging
import os
import sys
import traceback
from collections.abc import Callable


def run(stage: Callable[[], None]) -> None:
    """Run a stage; a mistake of the user's ends it with one line on stderr and exit status 1.

    Ctrl-C ends it at once with status 130. With MNIST_PIPELINE_DEBUG=1 the full stack trace is printed.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    try:
        stage()
        status = 0
    except KeyboardInterrupt:
        print("\nInterrupted. `dvc repro` goes on where this stopped.", file=sys.stderr)
        status = 130
    except (ValueError, ArithmeticError, OSError, ImportError) as error:
        if os.environ.get("MNIST_PIPELINE_DEBUG") == "1":
            traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        status = 1
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # leave now: joining the workers' threads could take seconds
