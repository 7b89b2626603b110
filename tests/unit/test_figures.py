"""docs/results.md is what `make figures` writes."""

import sys

from helpers import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import figures


def test_the_page_of_results_is_written_from_the_files() -> None:
    assert figures.PAGE.read_text() == figures.render(), "write it anew: make figures"


def test_a_table_shows_the_file_and_names_commit_day_and_machine() -> None:
    found = {"commit": "1234567", "date": "2026-11-30", "machine": {"cores": 2, "processor": "a Z80", "torch": "2.14"}}
    said = figures.describe_source(found, "bench-train")
    assert said.strip() == "(`make bench-train`;\n2026-11-30, commit 1234567;\n2 cores of a Z80, PyTorch 2.14)"
    rows = dict(
        figures.show_training({"speedup": 7.94, "n": 3, "speedup_on_full_images": 4, "executed_fraction_of_limit": 1})
    )
    assert rows["images/s over the usual PyTorch loop's"] == "7.9 times (median of 3 turns)"


def test_every_benchmark_has_its_target() -> None:
    targets = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}: " in targets for *_, target, _ in figures.FIGURES.values() if target)
