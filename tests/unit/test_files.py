"""Whatever happens to a process that writes, a reader finds the old file or folder, or the new one."""

import csv
import io
import json
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_pipeline import files


def write_file(path: Path, text: str) -> None:
    path.write_text(text)


def write_folder(path: Path, text: str) -> None:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "text").write_text(text)


def content(path: Path) -> str | None:
    """What write_file or write_folder wrote; None where there is nothing."""
    if not os.path.lexists(path):
        return None
    if path.is_dir():
        assert [child.name for child in path.rglob("*")] == ["deep", "text"]
        return (path / "deep" / "text").read_text()
    return path.read_text()


Write = Callable[[Path, str], None]
KINDS: list[Write] = [write_file, write_folder]
each_pair = pytest.mark.parametrize(("write_old", "write_new"), [(old, new) for old in KINDS for new in KINDS])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_json_and_tables_are_complete_and_leave_nothing_next_to_them(tmp_path: Path) -> None:
    files.write_json(tmp_path / "deep" / "a.json", {"b": 1})
    rows = [{"x": 1, "y": "two, three"}, {"x": 2, "y": ""}]
    files.write_csv(tmp_path / "deep" / "a.csv", rows)
    assert json.loads((tmp_path / "deep" / "a.json").read_text()) == {"b": 1}
    text = (tmp_path / "deep" / "a.csv").read_text()
    assert text == 'x,y\n1,"two, three"\n2,\n'
    assert [row["y"] for row in csv.DictReader(io.StringIO(text))] == ["two, three", ""]
    assert names(tmp_path / "deep") == ["a.csv", "a.json"]


@each_pair
def test_a_file_or_folder_takes_the_place_of_either(tmp_path: Path, write_old: Write, write_new: Write) -> None:
    path = tmp_path / "parent" / "result"
    for write, text in ((write_old, "old"), (write_new, "new")):
        with files.replacing(path) as unfinished:
            write(unfinished, text)
            assert content(path) == (None if text == "old" else "old")
        assert content(path) == text
        assert path.is_dir() == (write is write_folder)
        assert names(path.parent) == ["result"]


STEPS = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.scandir"}


def kill_at(step: int, action: Callable[[], None]) -> bool:
    """Run an action in a child process that is killed before its `step`-th access to files; whether it was killed."""
    if (child := os.fork()) == 0:
        left = step

        def count(event: str, _: object) -> None:
            nonlocal left
            if event not in STEPS:
                return
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        status = 1
        try:
            sys.addaudithook(count)
            action()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status == -signal.SIGKILL


@each_pair
def test_a_kill_at_any_step_loses_nothing(tmp_path: Path, write_old: Write, write_new: Write) -> None:
    path = tmp_path / "result"

    def replace() -> None:
        with files.replacing(path) as unfinished:
            write_new(unfinished, "new")

    found, step, killed = [], 0, True
    while killed:
        step += 1
        files.remove(path)
        write_old(path, "old")
        killed = kill_at(step, replace)
        found.append(content(path))
        after_kill = found[-1]
        with pytest.raises(ZeroDivisionError), files.replacing(path):  # the next run, which fails in its turn
            raise ZeroDivisionError
        assert content(path) == (after_kill or "old")  # what was moved away is back
        assert names(tmp_path) == ["result"]
    moved_away = write_folder in (write_old, write_new)
    assert list(dict.fromkeys(found)) == (["old", None, "new"] if moved_away else ["old", "new"])
    assert step > 5


def test_a_kill_at_any_step_leaves_each_of_some_files_old_or_new(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    def replace(text: str) -> None:
        with files.replacing_files(folder) as unfinished:
            for name in ("a", "b"):
                write_file(unfinished / name, text)

    found, step, killed = [], 0, True
    while killed:
        step += 1
        replace("old")
        write_file(folder / "thesis", "of the user")
        killed = kill_at(step, lambda: replace("new"))
        found.append((content(folder / "a"), content(folder / "b"), content(folder / "thesis")))
        with pytest.raises(ZeroDivisionError), files.replacing_files(folder):  # the next run, which fails in its turn
            raise ZeroDivisionError
        assert names(folder) == ["a", "b", "thesis"]
    expected = [("old", "old", "of the user"), ("new", "old", "of the user"), ("new", "new", "of the user")]
    assert list(dict.fromkeys(found)) == expected


@pytest.mark.parametrize("write", KINDS)
def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path, write: Write) -> None:
    path, target = tmp_path / "link", tmp_path / "target"
    write(target, "target")
    path.symlink_to(target)
    with files.replacing(path) as unfinished:
        write(unfinished, "new")
    assert not path.is_symlink()
    assert (content(path), content(target)) == ("new", "target")


def test_the_new_file_can_be_written_to_where_the_old_one_could_not(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    path.chmod(0o444)  # as DVC leaves files that are linked to its cache
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & stat.S_IWUSR
