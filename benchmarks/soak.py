"""Ten minutes of full load on both servers at once: no error, no growing memory.  python benchmarks/soak.py [minutes]

Memory is the resident set of a server's processes, after the first minute and at the end.
"""

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from bench_serve import CONNECTIONS, check_tools, write_requests
from common import ROOT, run_in_subprocess
from figures import publish
from servers import HERE, fastapi_server, served_by_torchserve

ARCHIVE = ROOT / "model_store" / "mnist.mar"
SERVERS = {
    "torchserve": lambda: served_by_torchserve(ARCHIVE, ROOT / "handlers"),
    "fastapi": lambda: fastapi_server(ARCHIVE),
}
WARM_UP = 60  # seconds until heaps and caches have their size


def main() -> None:
    """Run it, print and write the figures, and fail where it failed."""
    check_tools()
    minutes = sys.argv[1] if len(sys.argv) > 1 else "10"
    with ThreadPoolExecutor() as pool:
        soaked = pool.map(lambda server: run_in_subprocess(__file__, "soak", server, minutes), SERVERS)
        content = dict(zip(SERVERS, soaked, strict=True))
    publish("soak", content)
    if any(each["errors"] or each["growth"] >= 0.05 for each in content.values()):
        sys.exit("the soak failed: errors, or memory that grew by 5 % or more")


def soak(server: str, minutes: float) -> dict[str, float]:
    """Load one server, and return what it answered and how its memory grew."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name, SERVERS[server]() as url:
        pictures, _ = write_requests(Path(name))
        load(url, WARM_UP, pictures)
        before = memory()
        figures = load(url, int(60 * minutes), pictures)
        return {"minutes": minutes, "growth": round(memory() / before - 1, 4), "mebibytes": before} | figures


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
    if sys.argv[1:2] == ["soak"]:
        print(json.dumps(soak(sys.argv[2], float(sys.argv[3]))))
    else:
        main()
