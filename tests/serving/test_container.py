"""The image `api`, built and run as deploy/Containerfile says: not root, and on a read-only root file system."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT
from helpers.load import until
from helpers.torchserve import free_ports

from mnist_pipeline.serving.torchserve import Service

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


@pytest.fixture
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The image's identifier, of files that their owner alone may read."""
    if not shutil.which("buildah") or os.geteuid():
        pytest.skip("buildah builds in a chroot, and the image runs in one: both want root")
    if subprocess.run(["buildah", "inspect", "--type", "image", BASE], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no image {BASE} here: buildah pull {BASE}, or MNIST_TEST_BASE=another")
    archive: Path = request.getfixturevalue("int8_archive")  # nothing is trained where the image cannot be built
    for name in (".dockerignore", "LICENSE", "README.md", "deploy", "pyproject.toml", "src"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "model_store").mkdir()
    shutil.copy(archive, tmp_path / "model_store/mnist.mar")
    for path in tmp_path.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    options = ["--isolation", "chroot", "--format", "docker", "--build-arg", f"BASE={BASE}"]
    options += ["--file", "deploy/Containerfile", "--target", "api"]
    identifier = buildah("build", "--quiet", *options, ".", cwd=tmp_path, umask=0o077).splitlines()[-1]
    yield identifier
    buildah("rmi", identifier)


@pytest.fixture
def root(image: str) -> Iterator[Path]:
    """The folder that holds the image's files."""
    container = buildah("from", image)
    yield Path(buildah("mount", container))
    buildah("rm", container)


def test_the_image_answers_without_torch_and_ends_as_it_should(image: str, root: Path) -> None:
    (packages,) = (root / "opt/venv/lib").glob("python3*/site-packages")
    assert not {"torch", "pip", "setuptools"} & {path.name for path in packages.iterdir()}
    configuration: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    (port,) = free_ports(1)
    environment = dict(each.split("=", 1) for each in configuration["Env"])
    assert environment["MNIST_HOST"] == "0.0.0.0"
    environment |= {"MNIST_HOST": "127.0.0.1", "MNIST_PORT": str(port)}  # this machine's network is the container's
    start = ["unshare", "--mount", "sh", "-c", RUN, "sh", str(root), configuration["User"]]
    kind, *health = configuration["Healthcheck"]["Test"]
    assert kind == "CMD"

    def healthy() -> bool:
        return not subprocess.run([*start, *health], env=environment, capture_output=True, check=False).returncode

    assert not healthy()
    with subprocess.Popen([*start, *configuration["Cmd"]], env=environment) as server:
        try:
            until(healthy, 60)
            assert b"\nUid:\t10001\t" in Path(f"/proc/{server.pid}/status").read_bytes()
            with pytest.raises(OSError, match="Read-only file system"):
                Path(f"/proc/{server.pid}/root/srv/file").touch()
            answer = Service(f"http://127.0.0.1:{port}").predict((ROOT / "tests/images/seven.png").read_bytes())
            assert answer.json()["label"] == "7"
            server.terminate()
            assert server.wait(30) == 0
        finally:
            with suppress(ProcessLookupError):
                server.kill()
