import json
from pathlib import Path

from mnist_pipeline import files


def test_text_json_and_tables_land_whole_and_leave_nothing_beside_them(tmp_path: Path) -> None:
    files.write_json(tmp_path / "deep" / "a.json", {"b": 1})
    files.write_csv(tmp_path / "deep" / "a.csv", [{"x": 1, "y": "two, three"}, {"x": 2, "y": ""}])
    assert json.loads((tmp_path / "deep" / "a.json").read_text()) == {"b": 1}
    assert (tmp_path / "deep" / "a.csv").read_text() == 'x,y\n1,"two, three"\n2,\n'
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["a.csv", "a.json"]
