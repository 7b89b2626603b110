"""The servers that `make bench-serve` compares: each function starts one, gives its address and stops it.

The peers serve the network and the code of the archive, so that they differ from this project in nothing but the
server. Each has an environment of its own, which is not in the lock.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic, sleep

import requests
from common import ROOT
from helpers import torchserve

HERE = Path(__file__).parent / "serving"
ENVIRONMENTS = ROOT / "tmp" / "peers"  # git ignores it
# What the code in the archive imports, in the versions of the lock; torch is not among it.
SHARED = ("numpy", "opencv-python-headless", "pillow", "onnxruntime")


class StartError(Exception):
    """A server that could not be installed or started; the message ends with what it printed last."""


@dataclass(frozen=True)
class Peer:
    """A server of another project: what to install, where it answers, and variables of its process."""

    requirement: str
    path: str
    variables: Mapping[str, str] = field(default_factory=dict)


PEERS = {
    "litserve": Peer("litserve==0.2.19", "/predict"),
    "ray_serve": Peer(
        "ray[serve]==2.60.0",
        "/",
        # Ray's page "Enable High Throughput on Ray Serve" sets the first two: HAProxy in place of the proxy in Python,
        # and replicas without a thread between the server and the model.
        {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",  # of a server that stops; 30 by default
            "RAY_USAGE_STATS_ENABLED": "0",
        },
    ),
}


@contextmanager
def fastapi(app: str, model: Path) -> Iterator[str]:
    """An app of benchmarks/serving under uvicorn, with an unpacked archive."""
    (port,) = torchserve.free_ports(1)
    url = f"http://127.0.0.1:{port}/predict"
    command = [sys.executable, "-m", "uvicorn", f"{app}:app", "--port", str(port), "--log-level", "warning"]
    with running(command, lambda: requests.get(url, timeout=5).status_code == 405, {"MODEL": str(model)}, HERE):
        yield url


@contextmanager
def served_by_torchserve(packed: Path, handlers: Path) -> Iterator[str]:
    """TorchServe with an archive and the settings in a folder."""
    with torchserve.running(packed, handlers) as server:
        yield f"{server.service.inference}/predictions/{torchserve.MODEL}"


def pack_plain(folder: Path) -> tuple[Path, Path]:
    """Pack the model in `folder` with the plain handler; returns the archive, and TorchServe's stock settings.

    Only the addresses and the tokens are not as TorchServe has them.
    """
    settings = folder / "settings"
    settings.mkdir()
    lines = [f"{api}_address=http://127.0.0.1" for api in ("inference", "management", "metrics")]
    lines += ["model_store=model_store", "disable_token_authorization=true"]
    (settings / "config.properties").write_text("\n".join(lines) + "\n")
    model = folder / "model"
    info = json.loads((model / "model_info.json").read_text())
    scratch = folder / "stock"
    scratch.mkdir()
    command = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", torchserve.MODEL]
    command += ["--version", "1", "--serialized-file", str(model / info["weights"])]
    command += ["--handler", str(HERE / "plain_handler.py"), "--extra-files", str(model / "model_info.json")]
    # A temporary folder of its own: the archiver removes $TMPDIR/<model name>.
    subprocess.run([*command, "--export-path", str(scratch)], env=os.environ | {"TMPDIR": str(scratch)}, check=True)
    return scratch / f"{torchserve.MODEL}.mar", settings


@contextmanager
def fastapi_server(packed: Path) -> Iterator[str]:
    """This project's FastAPI server with an archive."""
    (port,) = torchserve.free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mnist_pipeline.serve", str(packed), "--port", str(port)]
    with running(command, lambda: requests.get(f"{url}/ready", timeout=5).status_code == 200):
        yield f"{url}/predictions/{torchserve.MODEL}"


@contextmanager
def running_peer(name: str, model: Path) -> Iterator[str]:
    """A peer with an unpacked archive; it is ready when it reads tests/images/seven.png."""
    peer = PEERS[name]
    python = install(name)
    (port,) = torchserve.free_ports(1)
    url = f"http://127.0.0.1:{port}{peer.path}"
    seven = (ROOT / "tests/images/seven.png").read_bytes()

    def reads_seven() -> bool:
        response = requests.post(url, seven, headers={"Content-Type": "image/png"}, timeout=5)
        return response.ok and response.json()["digit"] == 7

    variables = {"MODEL": str(model), "PORT": str(port), "PYTHONPATH": str(model)} | dict(peer.variables)
    with running([str(python), str(HERE / f"{name}_app.py")], reads_seven, variables):
        yield url


def install(name: str) -> Path:
    """Make the environment of a peer where it is missing or of other versions, and return its Python."""
    folder = ENVIRONMENTS / name
    packages = [PEERS[name].requirement, *(f"{package}=={version(package)}" for package in SHARED)]
    ready = folder / "ready"  # written last, so that an incomplete environment is noticed
    content = "\n".join([sys.version, *packages])
    if not ready.exists() or ready.read_text() != content:
        print(f"Making the environment of {name}: about a minute, and 750 MB at most")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *packages], check=True)
        ready.write_text(content)
    return folder / "bin/python"


@contextmanager
def running(
    command: list[str],
    ready: Callable[[], bool],
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
    seconds: float = 90.0,
) -> Iterator[None]:
    """Start a server, wait until it is ready, and stop it and its processes at the end.

    Raises:
        StartError: it ended or was not ready in time.
    """
    with TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | dict(variables or {}),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its workers can be stopped with it
        )
        try:
            deadline = monotonic() + seconds
            while not is_ready(ready):
                status = process.poll()
                if status is not None or monotonic() > deadline:
                    what = f"was not ready within {seconds:g} s" if status is None else f"ended with status {status}"
                    output.seek(0)
                    text = output.read().decode(errors="replace")
                    raise StartError(f"{' '.join(command)} {what}:\n{text[-1000:]}")
                sleep(0.1)
            yield
        finally:
            process.terminate()  # alone at first: Ray stops the rest in order
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            torchserve.stop(process)


def is_ready(ready: Callable[[], bool]) -> bool:
    """Tell whether a server is ready; one that does not listen yet is not."""
    try:
        return ready()
    except requests.RequestException:
        return False
