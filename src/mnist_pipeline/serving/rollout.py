"""Replace the served model by a new one without interrupting requests:  python -m mnist_pipeline.serving.rollout --help

The new version is registered next to the old one, checked on known digits and made the default. The old one is removed
when its last request is answered. On any failure the old version stays the default, the new one is removed, and the
error names the reason.
"""

import argparse
import json
import logging
import shutil
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import requests

from mnist_pipeline import console
from mnist_pipeline.console import PipelineError
from mnist_pipeline.folders import normalise_name, visible
from mnist_pipeline.serving.torchserve import MODEL, Service

GRACE = 1.0  # seconds for a request that the server has accepted and not yet queued
SETTLE = 5.0  # seconds that the worker may take to be reported as ready after its registration, under load
logger = logging.getLogger(__name__)


class RolloutError(PipelineError):
    """The new version does not serve; the old one still does."""


def roll_out(
    service: Service, archive: Path, model_store: Path, digits: Mapping[str, bytes], *, seconds: float = 60.0
) -> str:
    """Serve a new archive in place of the present one, without a request failing; returns its version.

    `digits` are pictures by the label that the new version must read in them. A copy of the archive lies in the
    server's `model_store` meanwhile. `seconds` is how long the new version may take to load, and the old one to finish
    its requests. Raises RolloutError with the reason; the version that was the default before still is.
    """
    old, new = service.default_version(), read_version(archive)
    if new == old:
        raise RolloutError(f"version {new} is the one that is served already; archive another model first")
    if new in service.versions():  # what an interrupted roll-out left behind
        service.manage("DELETE", f"/{MODEL}/{new}")
    copy = model_store / f"{MODEL}-{new}.mar"
    try:
        shutil.copy(archive, copy)  # with its permissions: the server may run as another user
        logger.info("Loading version %s", new)
        service.manage("POST", params={"url": copy.name, "synchronous": "true"}, timeout=seconds)
        check(service, new, digits)
        service.manage("PUT", f"/{MODEL}/{new}/set-default")
    except (PipelineError, OSError) as error:
        if new in service.versions():
            service.manage("DELETE", f"/{MODEL}/{new}")
        raise RolloutError(f"version {new} was not rolled out, {old} still serves: {error}") from error
    finally:
        copy.unlink(missing_ok=True)  # the server has unpacked it
    logger.info("Version %s serves; waiting for the last requests of %s", new, old)
    drain(service, old, next(iter(digits.values())), seconds)
    service.manage("DELETE", f"/{MODEL}/{old}")
    logger.info("Version %s is removed", old)
    return new


def check(service: Service, version: str, digits: Mapping[str, bytes]) -> None:
    """Wait until the new version is ready, and raise RolloutError where it does not read the known digits."""
    deadline = time.monotonic() + SETTLE
    while not service.ready(version):
        if time.monotonic() > deadline:
            raise RolloutError("it was loaded, and then its worker died; the server's log says why")
        time.sleep(0.1)
    for label, picture in digits.items():
        answer = service.predict(picture, version)
        read = answer.json().get("label") if answer.ok else f"{answer.status_code} {answer.text.strip()}"
        if read != label:
            raise RolloutError(f"it reads a known {label} as {read}")
    logger.info("It reads all %d known digits", len(digits))


def drain(service: Service, version: str, picture: bytes, seconds: float) -> None:
    """Wait until a version that is no longer the default has answered what it was asked."""
    deadline = time.monotonic() + seconds
    time.sleep(GRACE)
    while service.versions()[version]["jobQueueStatus"]["pendingRequests"] and time.monotonic() < deadline:
        time.sleep(0.05)
    for _ in service.versions()[version]["workers"]:  # its queue is first in, first out: this is answered last
        service.predict(picture, version, timeout=seconds)
    time.sleep(GRACE)


def read_version(archive: Path) -> str:
    """The version in an archive's manifest; raises RolloutError where the file is not an archive."""
    try:
        with zipfile.ZipFile(archive) as content:
            return str(json.loads(content.read("MAR-INF/MANIFEST.json"))["model"]["modelVersion"])
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise RolloutError(f"{archive} is no archive of a model ({error}); `dvc repro archive` makes one") from error


def read_known_digits(folder: Path) -> dict[str, bytes]:
    """Read pictures, by the label that is their file name: 7.png shows a 7."""
    digits = {normalise_name(file.stem): file.read_bytes() for file in visible(folder) if file.suffix == ".png"}
    if not digits:
        raise RolloutError(f"{folder} holds no <label>.png to check the new version on")
    return digits


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="?", default=Path("model_store/mnist.mar"), help="the new version")
    parser.add_argument("--model-store", type=Path, default=Path("model_store"), help="the server's")
    parser.add_argument("--digits", type=Path, default=Path("handlers/digits"), help="folder with <label>.png")
    parser.add_argument("--inference", default=Service.inference, help="address of the inference API")
    parser.add_argument("--management", default=Service.management, help="address of the management API")
    parser.add_argument("--keys", type=Path, help="the server's key_file.json, where tokens are on")
    parser.add_argument("--certificate", type=Path, help="the server's certificate (PEM), where it speaks TLS")
    arguments = parser.parse_args()
    tokens = json.loads(arguments.keys.read_text()) if arguments.keys else {}
    service = Service(arguments.inference, arguments.management, tokens=tokens, certificate=arguments.certificate)
    try:
        roll_out(service, arguments.archive, arguments.model_store, read_known_digits(arguments.digits))
    except requests.ConnectionError as error:  # TLS's errors, too
        raise RolloutError(
            f"no TorchServe answers at {arguments.management}, or its certificate is not --certificate ({error}); "
            "start one with: torchserve --start --models mnist=mnist.mar"
        ) from error


if __name__ == "__main__":
    console.run(main)
