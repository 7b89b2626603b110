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
from mnist_pipeline.folders import normalise_name
from mnist_pipeline.serving.torchserve import MODEL, Service

GRACE = 1.0  # seconds for a request that the server has accepted and not yet queued
logger = logging.getLogger(__name__)


class RolloutError(PipelineError):
    """The new version does not serve; the old one still does."""


def roll_out(service: Service, archive: Path, model_store: Path, digits: Mapping[str, bytes]) -> None:
    """Serve a new archive in place of the present one, without a request failing.

    `digits` are pictures by the label that the new version must read in them. A copy of the archive lies in the
    server's `model_store` meanwhile. Raises RolloutError with the reason; the old version is then still the default.
    """
    old, new = service.default_version(), read_version(archive)
    if new == old:
        raise RolloutError(f"version {new} is the one that is served already; archive another model first")
    copy = model_store / f"{MODEL}-{new}.mar"
    try:
        shutil.copy(archive, copy)  # with its permissions: the server may run as another user
        logger.info("Loading version %s", new)
        service.manage("POST", params={"url": copy.name, "synchronous": "true"})
        for label, picture in digits.items():
            answer = service.predict(picture, new)
            if not answer.ok or answer.json()["label"] != label:
                raise RolloutError(f"the answer to a known {label} is {answer.text.strip()}")
        service.manage("PUT", f"/{MODEL}/{new}/set-default")
    except (PipelineError, OSError) as error:
        if new in service.versions():
            service.manage("DELETE", f"/{MODEL}/{new}")
        raise RolloutError(f"version {new} was not rolled out, {old} still serves: {error}") from error
    finally:
        copy.unlink(missing_ok=True)  # the server has unpacked it
    logger.info("Version %s serves; waiting for the last requests of %s", new, old)
    drain(service, old, next(iter(digits.values())))
    service.manage("DELETE", f"/{MODEL}/{old}")
    logger.info("Version %s is removed", old)


def drain(service: Service, version: str, picture: bytes) -> None:
    """Wait until a version that is no longer the default has answered what it was asked."""
    for _ in range(60):
        time.sleep(GRACE)
        # The queue is first in, first out, and has one worker: this request is answered last.
        if service.predict(picture, version).status_code != 503:  # the queue is full
            break
    time.sleep(GRACE)


def read_version(archive: Path) -> str:
    """The version in an archive's manifest; raises RolloutError where the file is not an archive."""
    try:
        with zipfile.ZipFile(archive) as content:
            return str(json.loads(content.read("MAR-INF/MANIFEST.json"))["model"]["modelVersion"])
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise RolloutError(f"{archive} is no archive of a model ({error}); `dvc repro archive` makes one") from error


def read_known_digits(folder: Path) -> dict[str, bytes]:
    """Read pictures, by the label that is their file name: 7.png shows a 7. Hidden files do not count."""
    digits = {normalise_name(file.stem): file.read_bytes() for file in sorted(folder.glob("[!.]*.png"))}
    if not digits:
        raise RolloutError(f"{folder} holds no <label>.png to check the new version on")
    return digits


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="?", default="model_store/mnist.mar", help="the new version")
    parser.add_argument("--model-store", type=Path, default="model_store", help="the server's")
    parser.add_argument("--digits", type=Path, default="handlers/digits", help="folder with <label>.png")
    parser.add_argument("--inference", default=Service.inference, help="address of the inference API")
    parser.add_argument("--management", default=Service.management, help="address of the management API")
    parser.add_argument("--keys", type=Path, help="the server's key_file.json, where tokens are on")
    parser.add_argument("--certificate", default=True, help="the server's certificate (PEM), where it speaks TLS")
    arguments = parser.parse_args()
    tokens = json.loads(arguments.keys.read_text()) if arguments.keys else {}
    service = Service(arguments.inference, arguments.management, tokens=tokens, verify=arguments.certificate)
    try:
        roll_out(service, arguments.archive, arguments.model_store, read_known_digits(arguments.digits))
    except requests.ConnectionError as error:  # TLS's errors, too
        reason = f"no TorchServe answers at {arguments.management}, or its certificate is not --certificate ({error})"
        raise RolloutError(f"{reason}; start one with: torchserve --start --models mnist=mnist.mar") from error


if __name__ == "__main__":
    console.run(main)
