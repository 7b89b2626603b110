"""Serve an archive with FastAPI:  python -m mnist_pipeline.serve model_store/mnist.mar

Each option can also be given by an environment variable, which its help names. SIGHUP opens the archive again and
exchanges the model without a request failing; SIGTERM and Ctrl-C answer what was accepted, and end.
"""

import argparse
import errno
import os
import re
import socket
from pathlib import Path

from mnist_pipeline import console
from mnist_pipeline.serving.server import Options, ServeError, serve


def main() -> None:
    """Run the command line."""
    arguments = parse_arguments()
    if bool(arguments.certificate) != bool(arguments.private_key):
        raise ServeError("TLS needs both, the certificate and its private key; only one is given")
    for file in filter(None, (arguments.archive, arguments.certificate, arguments.private_key)):
        if not file.is_file():
            hint = "; `make repro` makes it" if file == arguments.archive else ""
            raise ServeError(f"{file} is missing{hint}")
    page = arguments.page if arguments.page and (arguments.page / "index.html").is_file() else None
    token = read_token(arguments.token)
    options = Options(arguments.archive, page, token, arguments.certificate, arguments.private_key)
    with listen(arguments.host, read_port(arguments.port)) as listener:
        host, port = listener.getsockname()[:2]
        address = f"{'https' if options.certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        what = f"Draw a digit at {address}/ or send" if page else "Send"
        ready = f"{what} pictures to {address}/predictions/mnist; {address}/docs describes it. Ctrl-C stops it."
        serve(options, listener, lambda: print(ready, flush=True))


def parse_arguments() -> argparse.Namespace:
    """The options of the command line, and where they are not given those of the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def add(name: str, kind: type, default: object, text: str) -> None:
        variable = f"MNIST_{name.lstrip('-').upper().replace('-', '_')}"
        nargs = {} if name.startswith("-") else {"nargs": "?"}
        value = os.environ.get(variable, "")
        # A file or a Kubernetes secret often ends with a line break. A token of nothing else is no missing token.
        given = value if name == "--token" else value.strip() or default
        parser.add_argument(name, type=kind, default=given, help=f"{text} ({variable})", **nargs)  # type: ignore[arg-type]

    add("archive", Path, "model_store/mnist.mar", "the model to serve")
    add("--host", str, "127.0.0.1", "the address to listen at; 0.0.0.0 is every one")
    add("--port", str, "8080", "0 takes a free one")
    add("--page", Path, "demo", "a folder with a page to show, where it exists")
    add("--token", str, "", "what clients must send as Authorization: Bearer TOKEN; better given by the variable")
    add("--certificate", Path, None, "a PEM file, for TLS")
    add("--private-key", Path, None, "a PEM file, for TLS")
    return parser.parse_args()


def read_port(text: str) -> int:
    """The number of a port. Raises ServeError with the range."""
    if not (re.fullmatch("[0-9]{1,5}", text) and int(text) < 65536):
        raise ServeError(f"--port (MNIST_PORT) must be a number from 0 to 65535, not {text!r}")
    return int(text)


def read_token(text: str) -> str:
    """The token without the white space around it. Raises ServeError where no header could carry it."""
    token = text.strip()
    if (text and not token) or not re.fullmatch("[ -~]*", token):
        raise ServeError("--token (MNIST_TOKEN) must be printable ASCII characters, and more than white space")
    return token


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ServeError with what to do."""
    if not host.strip():
        raise ServeError("--host (MNIST_HOST) is empty; 0.0.0.0 listens at every address")
    try:
        host.encode("idna")  # as the socket does, which would stay open
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServeError(f"port {port} of {host} is taken; choose another; --port 0 takes a free one") from None
        raise ServeError(f"--host {host} --port {port} cannot be opened: {error}") from None
    except UnicodeError:
        raise ServeError(f"--host (MNIST_HOST) must be an address or the name of a host, not {host!r}") from None


if __name__ == "__main__":
    console.run(main)
