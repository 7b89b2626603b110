import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_pipeline.training.checkpoint import Checkpoint


def new_state(step: int) -> dict[str, Any]:
    """Shapes and types as a network and its optimizer have: odd sizes, a count, a bfloat16, another memory format."""
    images = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    return {"step": step, "tensors": [torch.randn(7, 3), torch.tensor(5), torch.randn(11).bfloat16(), images]}


def save(folder: Path) -> dict[str, Any]:
    """Save twice, and return what was saved last."""
    Checkpoint(folder, "fingerprint").save(new_state(1))
    state = new_state(2)
    Checkpoint(folder, "fingerprint").save(state)
    return state


def test_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    state = save(tmp_path)
    loaded = Checkpoint(tmp_path, "fingerprint").load()
    assert loaded is not None
    assert loaded["step"] == 2
    for found, expected in zip(loaded["tensors"], state["tensors"], strict=True):
        assert torch.equal(found, expected)
        assert found.stride() == expected.stride()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_nothing_is_loaded_or_logged_where_nothing_was_saved_or_all_was_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoints", "fingerprint")
    assert checkpoint.load() is None
    save(checkpoint.folder)
    checkpoint.remove()
    assert not list(tmp_path.iterdir())
    assert not caplog.records


def test_a_checkpoint_with_another_fingerprint_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path)
    assert Checkpoint(tmp_path, "another").load() is None
    assert "belongs to another training and is ignored" in caplog.text


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_the_content(path: Path) -> None:
    torch.save({"fingerprint": "fingerprint"}, path)


@pytest.mark.parametrize("damage", [truncate, change_a_byte, replace_the_content])
def test_a_damaged_checkpoint_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    save(tmp_path)
    damage(tmp_path / "checkpoint.pt")
    assert Checkpoint(tmp_path, "fingerprint").load() is None
    assert "is damaged and is ignored" in caplog.text


def test_a_full_disk_is_reported_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    """A limit of the size of files stands in for the full disk."""
    save(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"checkpoint\.pt cannot be written .* resumes the training .* write none"):
            Checkpoint(tmp_path, "fingerprint").save({"step": 3, "weights": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    loaded = Checkpoint(tmp_path, "fingerprint").load()
    assert loaded is not None
    assert loaded["step"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
