"""`make score`: how well a model reads a folder of one's own pictures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.pen_digits import encode
from helpers.small_model import HANDLERS
from PIL import Image

from mnist_pipeline.evaluation.score import ScoreError, label_pictures

DIGITS = HANDLERS / "digits"


def test_right_wrong_and_refused_pictures_are_counted(int8_archive: Path, tmp_path: Path) -> None:
    """The ten known digits under their own names, a seven that is called 1, a blank page and no picture."""
    folder, results = tmp_path / "pictures", tmp_path / "score"
    folder.mkdir()
    for digit in range(10):
        (folder / f"{digit}_known.png").write_bytes((DIGITS / f"{digit}.png").read_bytes())
    (folder / "1_seven.png").write_bytes((DIGITS / "7.png").read_bytes())
    (folder / "3_blank.png").write_bytes(encode(Image.new("L", (60, 60), 255)))
    (folder / "5_text\udcff.png").write_bytes(b"no picture")  # its name is not UTF-8
    (folder / "labels.csv").write_text("file,label\n")
    command = [sys.executable, "-m", "mnist_pipeline.evaluation.score", str(folder)]
    done = subprocess.run(
        [*command, "--archive", str(int8_archive), "--to", str(results)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[:4] == ["label", "n", "right", "refused"]
    assert done.stdout.splitlines()[11].split()[:2] == ["all", "13"]

    result = json.loads((results / "score.json").read_text())
    assert (result["n"], result["refused"]) == (13, 2 + result["by_label"]["0"]["refused"])
    assert result["accuracy"] == result["numbers_right"] / 13
    wrong = {mistake["picture"]: mistake for mistake in result["mistakes"]}
    assert len(wrong) == 13 - result["numbers_right"]
    assert wrong["1_seven.png"]["answer"] == "7"
    assert wrong["3_blank.png"]["reason"] == "the picture is blank: no ink stands out from the paper"
    assert wrong["5_text\udcff.png"]["reason"].startswith("these 10 bytes are no ")
    assert (result["by_label"]["7"]["n"], result["by_label"]["7"]["numbers_right"]) == (1, 1)
    assert 0 < result["milliseconds_median"] <= result["milliseconds_95_percent"]
    with Image.open(results / "mistakes.png") as sheet:
        assert sheet.width == 4 * 2 * 160


def test_labels_are_names_of_folders_or_of_files(tmp_path: Path) -> None:
    for name in ("7/kitchen.jpg", "308/door.png", "42_gate.png", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    labels = {str(path.relative_to(tmp_path)): label for path, label in label_pictures(tmp_path).items()}
    assert labels == {"7/kitchen.jpg": "7", "308/door.png": "308", "42_gate.png": "42"}


def test_what_cannot_be_scored_is_said(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="is no folder"):
        label_pictures(tmp_path / "missing")
    with pytest.raises(ScoreError, match="there are no pictures in"):
        label_pictures(tmp_path)
    for name in ("kitchen.png", "_kitchen.png", " _kitchen.png"):  # "" would be right where a picture is refused
        (tmp_path / name).touch()
        with pytest.raises(ScoreError, match=f"Call it like 7_{name}"):
            label_pictures(tmp_path)
        (tmp_path / name).unlink()
