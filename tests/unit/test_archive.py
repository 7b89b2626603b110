import hashlib
import shutil
import zipfile
from pathlib import Path

import pytest
from helpers import small_model

from mnist_pipeline import archive, data, model


def test_it_holds_the_code_byte_for_byte(int8_archive: Path, saved: Path) -> None:
    info = small_model.info_of(int8_archive)
    with zipfile.ZipFile(int8_archive) as content:
        assert content.testzip() is None
        names = content.namelist()
        for source in [*archive.SOURCES, small_model.HANDLERS / "mnist_handler.py"]:
            assert content.read(source.name) == source.read_bytes()
        assert content.read(info["weights"]) == (saved / info["weights"]).read_bytes()
        assert hashlib.sha256(content.read(archive.INT8_FILE)).hexdigest() == info["serving"]["sha256"]
    assert names == sorted(names)
    assert "model-config.yaml" in names


def test_it_says_which_form_serves_and_why(int8_archive: Path, plain_archive: Path) -> None:
    assert small_model.info_of(int8_archive)["serving"]["form"] == "int8 ONNX Runtime"
    refused = small_model.info_of(plain_archive)["serving"]
    assert refused["form"] == "weights"
    assert "file" not in refused
    with zipfile.ZipFile(plain_archive) as content:
        assert archive.INT8_FILE not in content.namelist()


def test_equal_inputs_give_equal_bytes(int8_archive: Path, saved: Path, digits: data.Dataset, tmp_path: Path) -> None:
    moved = shutil.copytree(saved, tmp_path / "elsewhere" / "saved_models", copy_function=shutil.copy)
    again = small_model.pack(tmp_path, moved, digits, maximal_drop=1.0)
    assert again.read_bytes() == int8_archive.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["elsewhere", "mnist.mar"]


def test_damaged_weights_are_not_archived(saved: Path, digits: data.Dataset, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(saved, tmp_path / "saved_models"))
    with next(broken.glob("*.pth")).open("r+b") as file:
        file.seek(1000)
        file.write(b"damaged!")
    with pytest.raises(model.ModelError, match="is damaged"):
        small_model.pack(tmp_path, broken, digits, maximal_drop=1.0)
    assert not (tmp_path / "mnist.mar").exists()


def test_a_missing_handler_leaves_the_old_archive(saved: Path, digits: data.Dataset, tmp_path: Path) -> None:
    (tmp_path / "mnist.mar").write_bytes(b"old")
    few = digits.validation.images[:8], digits.validation.labels[:8]
    with pytest.raises(archive.ArchiveError, match=r"missing\.py"):
        archive.archive(
            saved,
            tmp_path / "missing.py",
            small_model.HANDLERS / "model-config.yaml",
            tmp_path / "mnist.mar",
            calibration=digits.train.images[:8],
            validation_images=few[0],
            validation_labels=few[1],
        )
    assert (tmp_path / "mnist.mar").read_bytes() == b"old"
