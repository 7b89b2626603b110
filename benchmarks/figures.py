"""Writes docs/results.md from the JSON files of benchmarks/results and of the reference run: `make figures`.

No figure in that page is typed by hand. `make figures ONLY="train serve"` first runs these benchmarks; without ONLY
nothing is measured. Each table names the commit and the machine that it was measured on.
"""

import argparse
import json
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, describe_machine

PAGE = ROOT / "docs/results.md"
HEADING = """# Results

`make figures` writes this page from [benchmarks/results](../benchmarks/results) and the
[reference run](../benchmarks/reference); with `ONLY="train serve"` it measures those two first. Times depend on the
machine; ratios of one run do so less. Ranges are 95 % intervals. *n* counts seeds, turns or pictures, *sd* is the
standard deviation. Nothing was chosen by the test images.
"""
Rows = list[tuple[str, str]]


def percent(value: float, digits: int = 2) -> str:
    return f"{100 * value:.{digits}f} %"


def with_interval(found: dict[str, Any]) -> str:
    """An accuracy with its interval."""
    return f"{percent(found['accuracy'])} ({percent(found['accuracy_low'])} to {percent(found['accuracy_high'])})"


def show_reference(found: dict[str, Any]) -> Rows:
    return [
        ("test accuracy, as served", with_interval(found)),
        ("without the 15 test labels known to be wrong", percent(found["accuracy_without_wrong_labels"])),
        ("validation accuracy", percent(found["validation_accuracy"])),
        ("test accuracy of the trained weights", percent(found["accuracy_weights"])),
        ("test images sent as files", percent(found["accuracy_as_files"])),
        (
            "calibration error, before and after the temperature",
            f"{found['calibration_error_uncalibrated']:.4f}, {found['calibration_error']:.4f}",
        ),
    ]


def show_seeds(found: dict[str, Any]) -> Rows:
    each = ", ".join(percent(run["accuracy"]) for run in found["runs"])
    recipe = found["recipe"]
    return [
        (
            "test accuracy",
            f"mean {percent(found['accuracy_mean'])}, sd {percent(found['accuracy_sd'])}, n = {len(found['runs'])} "
            f"({each})",
        ),
        ("training", f"mean {found['seconds_mean']:.0f} s, {found['runs'][0]['images']:,} images seen"),
        ("settings", f"{recipe['optimizer']}, learning rate {recipe['lr']:g}, batch {recipe['batch_size']}"),
    ]


def show_training(found: dict[str, Any]) -> Rows:
    return [
        ("images/s over the usual PyTorch loop's", f"{found['speedup']:.1f} times (median of {found['n']} turns)"),
        ("the same without the early crop (`train.crop=0`)", f"{found['speedup_on_full_images']:.1f} times"),
        ("part of the machine's matrix rate that is used, uncropped", percent(found["executed_fraction_of_limit"], 0)),
    ]


def show_serving(found: dict[str, Any]) -> Rows:
    servers = {
        "FastAPI of this project": "this_project_fastapi",
        "TorchServe of this project": "this_project",
        "a plain FastAPI app": "fastapi",
        "TorchServe as it comes": "torchserve_stock",
    }
    rows = []
    for label, key in servers.items():
        rates = ", ".join(f"{found[key][count]['requests_per_second']:.0f}" for count in ("1", "8", "32"))
        rows.append((f"{label}: requests/s at 1, 8, 32 connections", rates))
    bare = ", ".join(f"{ratio:.2f}" for ratio in found["fraction_of_bare_fastapi"].values())
    peers = ", ".join(f"{ratio:.2f}" for ratio in found["best_peer_ratio"].values())
    return [
        *rows,
        ("FastAPI of this project over a bare app without its limits", f"{bare} times"),
        (f"this project over the best of {', '.join(found['peers'])}, same model", f"{peers} times"),
        ("TorchServe: images/s in requests of 100", f"{found['batch_images_per_second']:.0f}"),
        ("TorchServe: from start to first answer", f"{found['seconds_to_ready']:.1f} s"),
    ]


def show_hostile(found: dict[str, Any]) -> Rows:
    rows = [("a hostile request alone: longest", f"{found['alone_worst_seconds']:.1f} s")]
    for label, waits in (("small", found["small"]), ("photographed", found["photograph"])):
        seconds = f"{waits['median_seconds']:.2f}, {waits['worst_seconds']:.2f} s"
        rows.append((f"{label} pictures next to hostile ones: median, longest wait", seconds))
    memory = found["memory_mib"]
    return [*rows, ("memory, idle and at most", f"{memory['idle']}, {memory['most']} MiB")]


def show_soak(found: dict[str, Any]) -> Rows:
    rows = []
    for server, run in (("FastAPI", found["fastapi"]), ("TorchServe", found["torchserve"])):
        label = f"{server}: growth of memory in {run['minutes']:.0f} minutes of digits, errors"
        rows.append((label, f"{percent(run['growth'], 1)}, {run['errors']}"))
    return rows


def show_pictures(found: dict[str, Any]) -> Rows:
    rows = []
    for key, label in (("photographs", "drawn photographs of a digit"), ("numbers", "drawn numbers")):
        rows.append((f"{label}, n = {found[key]['pictures']}: read right", with_interval(found[key])))
    for key in ("letters", "garments", "scribbles"):
        label = f"{key}, n = {found[key]['pictures']}: accepted; accepted where 99 % of the digits are"
        shares = (found[key]["answered"], found[key]["answered_at_99_percent_of_digits"])
        rows.append((label, "; ".join(percent(share, 1) for share in shares)))
    return rows


def show_tuning(found: dict[str, Any]) -> Rows:
    return [
        (name, f"mean {value['mean']:.0f} s" if "seconds" in name else describe(value))
        for name, value in found["summary"].items()
        if not name.endswith("defaults, seconds of the search")
    ]


def describe(value: dict[str, Any]) -> str:
    return f"mean {percent(value['mean'])}, sd {percent(value['sd'])}, n = {value['n']}"


def show_workers(found: dict[str, Any]) -> Rows:
    most, bounds = found["rows"][-1], found["most_workers"]
    return [
        (
            f"efficiency of {most['workers']} workers, trials of {found['trial_seconds']:g} s",
            percent(most["efficiency"], 0),
        ),
        ("workers that one database carries, calculated", f"{bounds['database']:.0f}"),
        ("workers that one coordinator carries, calculated", f"{bounds['coordinator']:.0f}"),
    ]


# By the word that ONLY takes: title, what was measured, file, make target, rows.
FIGURES: dict[str, tuple[str, str, Path, str, Callable[[dict[str, Any]], Rows]]] = {
    "reference": (
        "The reference run",
        "`make repro` with the settings of this repository, seed 0, n = 1.",
        ROOT / "benchmarks/reference/metrics.json",
        "",
        show_reference,
    ),
    "default": (
        "The same settings with other seeds",
        "What a reader can expect of another run.",
        RESULTS / "accuracy-default.json",
        "bench-default",
        show_seeds,
    ),
    "accuracy": (
        "Seconds to 99.28 %",
        "The usual PyTorch loop took 2,600 s, on another machine: do not divide.",
        RESULTS / "accuracy.json",
        "bench-accuracy",
        show_seeds,
    ),
    "long": (
        "With more time",
        "The settings of [benchmarks/recipes.yaml](../benchmarks/recipes.yaml), `long`.",
        RESULTS / "accuracy-long.json",
        "bench-long",
        show_seeds,
    ),
    "tuning": (
        "What tuning is worth",
        "5,000 images as somebody's own folder; a training sees 15,000 (`--images 15000 --ways defaults study`).",
        RESULTS / "tuning.json",
        "bench-tuning",
        show_tuning,
    ),
    "train": ("Training speed", "In turn, in one run.", RESULTS / "train.json", "bench-train", show_training),
    "serve": ("Serving speed", "In turn, in one run.", RESULTS / "serve.json", "bench-serve", show_serving),
    "hostile": ("Hostile pictures", "FastAPI.", RESULTS / "hostile.json", "bench-hostile", show_hostile),
    "soak": ("Memory under load", "Digits as PNG files.", RESULTS / "soak.json", "bench-soak", show_soak),
    "pictures": (
        "Pictures that are drawn",
        "The reader's thresholds were tuned on this generator: real pictures may be harder.",
        RESULTS / "pictures.json",
        "bench-pictures",
        show_pictures,
    ),
    "workers": ("Many workers", "Trials that only wait.", RESULTS / "workers.json", "bench-workers", show_workers),
}


def publish(name: str, content: dict[str, Any]) -> None:
    """Write benchmarks/results/<name>.json with the machine, the day and the commit, and print what the page shows."""
    RESULTS.mkdir(exist_ok=True)
    command = ["git", "log", "-1", "--format=%h"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    content = content | {"machine": describe_machine(), "commit": commit, "date": date.today().isoformat()}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    for title, _, file, _, show in FIGURES.values():
        if file == path:
            print(f"\n{title}", *(f"{label}: {value}" for label, value in show(content)), sep="\n")
    print(f"\nWritten to {path.relative_to(ROOT)}")


def render() -> str:
    """The page, of the files as they are now; a benchmark without a result is left out."""
    parts = [HEADING]
    for title, measured, file, target, show in FIGURES.values():
        if not file.exists():
            continue
        found = json.loads(file.read_text())
        rows = "\n".join(f"| {label} | {value} |" for label, value in show(found))
        source = describe_source(found, target)
        parts.append(f"## {title}\n\n{measured}{source}\n\n| | |\n| --- | --- |\n{rows}\n")
    return "\n".join(parts)


def describe_source(found: dict[str, Any], target: str) -> str:
    """Where and when something was measured."""
    machine = found.get("machine", {})
    words = [f"`make {target}`"] if target else []
    if "commit" in found:
        words.append(f"{found['date']}, commit {found['commit']}")
    if machine:
        training = f", training in {machine['training_in']}" if "training_in" in machine else ""
        words.append(f"{machine['cores']} cores of {machine['processor']}{training}, PyTorch {machine['torch']}")
    source = ";\n".join(words)
    return f"\n({source})" if words else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"benchmarks to run first: {', '.join(FIGURES)}")
    only = parser.parse_args().only
    if unknown := [name for name in only if name not in FIGURES]:
        parser.error(f"{unknown[0]} is no benchmark; there are {', '.join(FIGURES)}")
    for name in only:
        if target := FIGURES[name][3]:
            subprocess.run(["make", target], cwd=ROOT, check=True)
    PAGE.write_text(render())
    print(f"Written to {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
