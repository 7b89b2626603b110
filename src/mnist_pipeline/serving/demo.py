"""A page to draw digits on, and the TorchServe that recognises them:  python -m mnist_pipeline.serving.demo --help

The page is served on loopback only, and TorchServe accepts requests of the page's origin only. Ctrl-C stops both.
"""

import argparse
import json
import signal
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from mnist_pipeline import console
from mnist_pipeline.serving import torchserve

SETTINGS = "/server.json"  # where the page asks for the address of its server and the names of the classes


class Page(SimpleHTTPRequestHandler):
    """Serves the page's files, and its settings."""

    server: "PageServer"

    def do_GET(self) -> None:
        if self.path != SETTINGS:
            return super().do_GET()
        content = json.dumps(self.server.settings).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return None

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")  # an edited page shows at once
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing: one line per request would hide the address."""


class PageServer(ThreadingHTTPServer):
    """An HTTP server on loopback; port 0 takes a free one."""

    def __init__(self, folder: Path, port: int) -> None:
        self.settings: dict[str, Any] = {}
        try:
            super().__init__(("127.0.0.1", port), lambda *given: Page(*given, directory=str(folder)))
        except OSError as error:
            raise torchserve.ServingError(
                f"port {port} of 127.0.0.1 is not free ({error}); take another: make demo PORT=8001"
            ) from None

    def start(self) -> None:
        """Serve until `shutdown`."""
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve(archive: Path, page: Path, handlers: Path, port: int = 0) -> Iterator[tuple[str, torchserve.Running]]:
    """Serve the page and its model: yield the page's address and the TorchServe, both ready, and stop both at the end.

    Args:
        archive: the .mar to serve.
        page: the folder with index.html.
        handlers: TorchServe's settings.
        port: of the page; 0 takes a free one.

    Raises:
        ServingError: there is no archive, the port is taken, or TorchServe did not become ready.
    """
    if not archive.exists():
        raise torchserve.ServingError(f"{archive} is missing; `make repro` makes it")
    with PageServer(page, port) as server:
        cors = {"cors_allowed_origin": server.address, "cors_allowed_methods": "POST"}
        with torchserve.running(archive, handlers, settings=cors) as running:
            server.settings = {"server": running.service.inference, "class_names": read_class_names(archive)}
            server.start()
            try:
                yield server.address, running
            finally:
                server.shutdown()


def read_class_names(archive: Path) -> list[str]:
    """Read the names of the classes from the archive."""
    with zipfile.ZipFile(archive) as content:
        return list(json.loads(content.read("model_info.json"))["class_names"])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=Path("model_store/mnist.mar"), help="the model to serve")
    parser.add_argument("--port", type=int, default=8000, help="of the page; 0 takes a free one")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` stops both, as Ctrl-C does
    print(f"Starting TorchServe with {arguments.archive} ...", flush=True)
    try:
        with serve(arguments.archive, Path("demo"), Path("handlers"), arguments.port) as (address, running):
            print(f"Draw a digit at {address}   (Ctrl-C stops it)", flush=True)
            status = running.process.wait()
        raise torchserve.ServingError(f"TorchServe stopped by itself with status {status}")
    except KeyboardInterrupt:
        print("\nStopped.")


if __name__ == "__main__":
    console.run(main)
