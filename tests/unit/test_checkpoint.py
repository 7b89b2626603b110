import json
from pathlib import Path

import pytest
import torch

from mnist_pipeline.checkpoint import Checkpoint, CheckpointError


def tensors() -> list[torch.Tensor]:
    """Shapes and types as a network and its optimizer have: odd sizes, a count, a bfloat16."""
    return [torch.randn(7, 3), torch.tensor(5), torch.randn(11).bfloat16(), torch.randn(2, 2)]


def saved(folder: Path) -> list[torch.Tensor]:
    content = tensors()
    checkpoint = Checkpoint(folder, "question")
    checkpoint.save(tensors(), {"step": 1})
    checkpoint.save(content, {"step": 2})
    return content


def test_what_was_saved_last_comes_back(tmp_path: Path) -> None:
    content, room = saved(tmp_path), tensors()
    checkpoint = Checkpoint(tmp_path, "question")
    assert checkpoint.load() == {"step": 2}
    checkpoint.restore(room)
    assert all(torch.equal(a, b) for a, b in zip(content, room, strict=True))


def test_nothing_saved_is_nothing_found_and_nothing_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert Checkpoint(tmp_path / "none", "question").load() is None
    assert not caplog.records


def test_a_foreign_checkpoint_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved(tmp_path)
    assert Checkpoint(tmp_path, "another").load() is None
    assert "belongs to another training" in caplog.text


def slot_in_use(folder: Path) -> Path:
    return folder / f"slot{json.loads((folder / 'checkpoint.json').read_text())['slot']}"


def test_a_truncated_slot_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved(tmp_path)
    with slot_in_use(tmp_path).open("r+b") as file:
        file.truncate(100)
    assert Checkpoint(tmp_path, "question").load() is None
    assert "has 100 bytes" in caplog.text


def test_a_damaged_slot_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved(tmp_path)
    with slot_in_use(tmp_path).open("r+b") as file:
        file.write(b"x")
    assert Checkpoint(tmp_path, "question").load() is None
    assert "its checksum differs" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"slot": 0}'])
def test_a_broken_index_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str) -> None:
    saved(tmp_path)
    (tmp_path / "checkpoint.json").write_text(content)
    assert Checkpoint(tmp_path, "question").load() is None
    assert "is not a checkpoint" in caplog.text


def test_state_of_another_size_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    checkpoint = Checkpoint(tmp_path, "question")
    checkpoint.load()
    with pytest.raises(CheckpointError, match="bytes of state where"):
        checkpoint.restore([torch.zeros(1000)])


def test_a_half_written_slot_leaves_the_other_one_whole(tmp_path: Path) -> None:
    content, room = saved(tmp_path), tensors()
    other = tmp_path / f"slot{1 - int(slot_in_use(tmp_path).name[-1])}"
    other.write_bytes(b"half")
    checkpoint = Checkpoint(tmp_path, "question")
    assert checkpoint.load() == {"step": 2}
    checkpoint.restore(room)
    assert torch.equal(content[0], room[0])
