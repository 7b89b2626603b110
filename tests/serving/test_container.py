"""The image `api`, built and run as deploy/Containerfile says: not root, and on a read-only root file system."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from helpers import ROOT
from helpers.torchserve import free_ports

pytestmark = [pytest.mark.extras, pytest.mark.slow, pytest.mark.timeout(900)]  # the build downloads 120 MB
BASE = os.environ.get("MNIST_TEST_BASE", "python:3.11-slim")
# Arguments: the image's root, its user, a command. It runs in a chroot on a read-only root, with a /tmp of its own.
RUN = """
mount --rbind "$1" "$1" && mount -o remount,bind,ro "$1" && mount -t tmpfs tmpfs "$1/tmp" &&
mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" || exit
root=$1 user=$2
shift 2
exec chroot --userspec="$user" "$root" "$@"
"""


def buildah(*arguments: str | Path, cwd: Path = ROOT, umask: int = -1) -> str:
    """What buildah prints; it must succeed."""
    done = subprocess.run(["buildah", *arguments], cwd=cwd, umask=umask, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def base() -> str:
    """The base image; where the image cannot be built, the tests are skipped before anything is trained for them."""
    if not shutil.which("buildah"):
        pytest.skip("there is no buildah here")
    if os.geteuid():
        pytest.skip("buildah builds in a chroot, and the image runs in one: both want root")
    if subprocess.run(["buildah", "inspect", "--type", "image", BASE], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no image {BASE} here: buildah pull {BASE}, or MNIST_TEST_BASE=another")
    return BASE


@pytest.fixture(scope="module")
def image(base: str, int8_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image's identifier, of files that their owner alone may read."""
    context = tmp_path_factory.mktemp("context")
    for name in (".dockerignore", "LICENSE", "README.md", "deploy", "pyproject.toml", "src"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, context / name)
    (context / "model_store").mkdir()
    shutil.copy(int8_archive, context / "model_store/mnist.mar")
    for path in context.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    options = ["--isolation", "chroot", "--format", "docker", "--build-arg", f"BASE={base}"]
    options += ["--file", "deploy/Containerfile", "--target", "api"]
    identifier = buildah("build", "--quiet", *options, ".", cwd=context, umask=0o077).splitlines()[-1]
    yield identifier
    buildah("rmi", identifier)


@pytest.fixture
def root(image: str) -> Iterator[Path]:
    """The folder that holds the image's files."""
    container = buildah("from", image)
    yield Path(buildah("mount", container))
    buildah("rm", container)


def test_the_image_answers_with_a_digit_and_ends_as_it_should(image: str, root: Path) -> None:
    configuration: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    (port,) = free_ports(1)
    environment = dict(each.split("=", 1) for each in configuration["Env"])
    assert environment["MNIST_HOST"] == "0.0.0.0"
    environment |= {"MNIST_HOST": "127.0.0.1", "MNIST_PORT": str(port)}  # this machine's network is the container's
    start = ["unshare", "--mount", "sh", "-c", RUN, "sh", str(root), configuration["User"]]
    health = configuration["Healthcheck"]["Test"]
    assert health[0] == "CMD"

    def healthy() -> bool:
        return not subprocess.run([*start, *health[1:]], env=environment, capture_output=True, check=False).returncode

    assert not healthy()
    with subprocess.Popen([*start, *configuration["Cmd"]], env=environment) as server:
        try:
            deadline = time.monotonic() + 60
            while not healthy():
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert b"\nUid:\t10001\t" in Path(f"/proc/{server.pid}/status").read_bytes()
            with pytest.raises(OSError, match="Read-only file system"):
                Path(f"/proc/{server.pid}/root/srv/file").touch()
            picture = (ROOT / "tests/images/seven.png").read_bytes()
            url = f"http://127.0.0.1:{port}/predictions/mnist"
            answer = requests.put(url, picture, headers={"Content-Type": "image/png"}, timeout=10)
            assert answer.status_code == 200, answer.text
            assert answer.json()["label"] == "7"
            server.terminate()
            assert server.wait(30) == 0
        finally:
            with suppress(ProcessLookupError):
                server.kill()


def test_the_image_holds_neither_torch_nor_an_installer(root: Path) -> None:
    (packages,) = (root / "opt/venv/lib").glob("python3*/site-packages")
    names = {path.name for path in packages.iterdir()}
    assert {"mnist_pipeline", "onnxruntime", "cv2"} <= names
    assert not {"torch", "pip", "setuptools"} & names
