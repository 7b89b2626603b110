"""Ten minutes at full load on each server: no error, no growing memory.  python benchmarks/soak.py [minutes]

Memory is the resident set of the server's processes, after the first minute and at the end.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
from bench_serve import CONNECTIONS, check_tools, write_requests
from common import ROOT, describe_machine, write
from servers import HERE, fastapi_server, served_by_torchserve

WARM_UP = 60  # seconds until heaps and caches have their size


def main() -> None:
    """Run it, print and write the figures, and fail where it failed."""
    check_tools()
    seconds = int(60 * float(sys.argv[1] if len(sys.argv) > 1 else 10))
    packed = ROOT / "model_store" / "mnist.mar"
    servers = {
        "torchserve": lambda: served_by_torchserve(packed, ROOT / "handlers"),
        "fastapi": lambda: fastapi_server(packed),
    }
    content = {}
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        pictures, _ = write_requests(Path(name))
        for server, start in servers.items():
            print(f"{server}: {seconds / 60 + 1:g} minutes")
            with start() as url:
                load(url, WARM_UP, pictures)
                before = memory()
                figures = load(url, seconds, pictures)
                growth = round(memory() / before - 1, 4)
            content[server] = {"minutes": seconds / 60, "growth": growth, "mebibytes_before": before} | figures
    print(json.dumps(content, indent=2))
    write("soak", content | {"machine": describe_machine()})
    if any(each["errors"] or each["growth"] >= 0.05 for each in content.values()):
        sys.exit("the soak failed: errors, or memory that grew by 5 % or more")


def load(url: str, seconds: int, pictures: list[Path]) -> dict[str, float]:
    """wrk at the most connections of the benchmark."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS[-1]}", f"-d{seconds}s", "--timeout", "10s", "-s", str(HERE / "post.lua")]
    command += [url, "--", "image/png", *map(str, pictures)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def memory() -> float:
    """Mebibytes resident of all processes that this one started, and that those started."""
    started = psutil.Process().children(recursive=True)
    return round(sum(process.memory_info().rss for process in started) / 2**20, 1)


if __name__ == "__main__":
    main()
