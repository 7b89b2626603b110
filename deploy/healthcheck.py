"""A container's health check: status 0 when the server says that it would answer requests, 1 otherwise.

healthcheck.py [URL WORD]: the URL must answer 200 with that word in its body; by default this project's own /ready.
"""

import os
import ssl
import sys
from http.client import HTTPException
from urllib.request import HTTPSHandler, ProxyHandler, build_opener


def main() -> None:
    """Ask, and end with the status."""
    scheme = "https" if os.environ.get("MNIST_CERTIFICATE", "").strip() else "http"
    own = f"{scheme}://127.0.0.1:{os.environ.get('MNIST_PORT', '').strip() or '8080'}/ready"
    url, word = sys.argv[1:] or (own, "")
    unverified = HTTPSHandler(context=ssl._create_unverified_context())  # the certificate names no loopback address
    try:
        with build_opener(ProxyHandler({}), unverified).open(url, timeout=4) as answer:
            sys.exit(word not in answer.read().decode())
    except (OSError, ValueError, HTTPException) as error:  # a status other than 200 is an OSError as well
        sys.exit(f"{url}: {error}")


if __name__ == "__main__":
    main()
