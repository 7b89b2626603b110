"""Call a TorchServe that runs."""

import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from mnist_pipeline.console import PipelineError

MODEL = "mnist"


class ServingError(PipelineError):
    """The server did not do what it was asked to; the message quotes its answer."""


@dataclass(frozen=True)
class Service:
    """A client of the model `mnist` on one TorchServe."""

    inference: str = "http://127.0.0.1:8080"
    management: str = "http://127.0.0.1:8081"
    metrics: str = "http://127.0.0.1:8082"
    tokens: Mapping[str, Any] = field(default_factory=dict)  # TorchServe's key_file.json, where tokens are on
    certificate: Path | None = None  # the one to trust (PEM); None: those of the usual authorities

    def predict(
        self, body: bytes, version: str = "", *, verb: str = "predictions", **options: Any
    ) -> requests.Response:
        """Send one body to the default version, or to the named one; `verb` may be `explanations`."""
        url = f"{self.inference}/{verb}/{MODEL}/{version}".rstrip("/")
        return self.send("POST", url, "inference", data=body, **options)

    def manage(self, method: str, path: str = "", **options: Any) -> Any:
        """The JSON of the management API at /models<path>; raises ServingError with the server's answer."""
        answer = self.send(method, f"{self.management}/models{path}", "management", **options)
        if not answer.ok:
            raise ServingError(f"{method} /models{path}: {answer.status_code} {answer.text.strip()}")
        return answer.json()

    def versions(self) -> dict[str, dict[str, Any]]:
        """Each registered version as TorchServe describes it, by name."""
        return {found["modelVersion"]: found for found in self.manage("GET", f"/{MODEL}/all")}

    def default_version(self) -> str:
        """The version that answers requests which name none."""
        return str(self.manage("GET", f"/{MODEL}")[0]["modelVersion"])

    def ready(self, version: str = "") -> bool:
        """Whether a request would be answered: a worker has loaded the model, and the queue is not full."""
        try:
            (state,) = self.manage("GET", f"/{MODEL}/{version}".rstrip("/"), timeout=5.0)
        except (ServingError, requests.RequestException):
            return False
        working = any(worker["status"] == "READY" for worker in state["workers"])
        return working and state["jobQueueStatus"]["remainingCapacity"] > 0

    def send(self, method: str, url: str, api: str, *, timeout: float = 60.0, **options: Any) -> requests.Response:
        """Send one HTTP request, with the token of that API."""
        headers = dict(options.pop("headers", {}))
        if api in self.tokens:
            headers["Authorization"] = f"Bearer {self.tokens[api]['key']}"
        verify = True if self.certificate is None else str(self.certificate)
        with requests.Session() as session:
            session.trust_env = not is_loopback(url)  # a proxy of the environment has another loopback
            return session.request(method, url, headers=headers, verify=verify, timeout=timeout, **options)


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine's loopback."""
    with suppress(ValueError):  # the host is a name, or the URL is none
        host = urlsplit(url).hostname
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    return False
