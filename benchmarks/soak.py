"""Ten minutes at full load: no error, and memory that does not grow.  python benchmarks/soak.py [minutes]

Memory is the resident set of Java and of the worker, after the first minute and at the end.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
from bench_serve import CONNECTIONS, check_tools, write_requests
from common import ROOT, describe_machine, write
from servers import HERE

from mnist_pipeline.serving import torchserve

WARM_UP = 60  # seconds until heaps and caches have their size


def main() -> None:
    """Run it, print and write the figures, and fail where it failed."""
    check_tools()
    seconds = int(60 * float(sys.argv[1] if len(sys.argv) > 1 else 10))
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        pictures, _ = write_requests(Path(name))
        with torchserve.running(ROOT / "model_store" / "mnist.mar", ROOT / "handlers") as server:
            url = f"{server.service.inference}/predictions/{torchserve.MODEL}"
            load(url, WARM_UP, pictures)
            before = memory(server)
            figures = load(url, seconds, pictures)
            after = memory(server)
    growth = {part: round(after[part] / before[part] - 1, 4) for part in before}
    content = {"minutes": seconds / 60, "growth": growth, "mebibytes": {"before": before, "after": after}} | figures
    print(json.dumps(content, indent=2))
    write("soak", content | {"machine": describe_machine()})
    if figures["errors"] or max(growth.values()) >= 0.05:
        sys.exit("the soak failed: errors, or memory that grew by 5 % or more")


def load(url: str, seconds: int, pictures: list[Path]) -> dict[str, float]:
    """wrk at the most connections of the benchmark."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS[-1]}", f"-d{seconds}s", "--timeout", "10s", "-s", str(HERE / "post.lua")]
    command += [url, "--", "image/png", *map(str, pictures)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def memory(server: torchserve.Running) -> dict[str, float]:
    """Mebibytes resident of Java and of its worker."""
    (java,) = psutil.Process(server.process.pid).children()
    (worker,) = java.children()
    return {name: round(part.memory_info().rss / 2**20, 1) for name, part in (("java", java), ("worker", worker))}


if __name__ == "__main__":
    main()
