"""Call a TorchServe that runs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from mnist_pipeline.console import PipelineError

MODEL = "mnist"
THIS_MACHINE = ("127.0.0.1", "localhost", "::1", "0.0.0.0")


class ServingError(PipelineError):
    """The server did not do what it was asked to; the message quotes its answer."""


@dataclass(frozen=True)
class Service:
    """A client of one TorchServe; the addresses are those that TorchServe has where its settings name no others."""

    inference: str = "http://127.0.0.1:8080"
    management: str = "http://127.0.0.1:8081"
    metrics: str = "http://127.0.0.1:8082"
    tokens: Mapping[str, Any] = field(default_factory=dict)  # TorchServe's key_file.json, where tokens are on
    verify: bool | str = True  # the certificate to trust (a PEM file); True: those of the usual authorities; False: any

    def predict(self, body: bytes, version: str = "", **options: Any) -> requests.Response:
        """Send one body to the default version, or to the named one."""
        url = f"{self.inference}/predictions/{MODEL}/{version}".rstrip("/")
        return self.send("POST", url, "inference", data=body, **options)

    def manage(self, method: str, path: str = "", **options: Any) -> Any:
        """The JSON of the management API at /models<path>; raises ServingError with the server's answer."""
        answer = self.send(method, f"{self.management}/models{path}", "management", **options)
        if not answer.ok:
            raise ServingError(f"{method} /models{path}: {answer.status_code} {answer.text.strip()}")
        return answer.json()

    def versions(self) -> list[str]:
        """The versions that are registered."""
        return [found["modelVersion"] for found in self.manage("GET", f"/{MODEL}/all")]

    def default_version(self) -> str:
        """The version that answers requests which name none."""
        return str(self.manage("GET", f"/{MODEL}")[0]["modelVersion"])

    def send(self, method: str, url: str, api: str, *, timeout: float = 60.0, **options: Any) -> requests.Response:
        """Send one HTTP request, with the token of that API."""
        headers = dict(options.pop("headers", {}))
        if api in self.tokens:
            headers["Authorization"] = f"Bearer {self.tokens[api]['key']}"
        with requests.Session() as session:
            session.trust_env = urlsplit(url).hostname not in THIS_MACHINE  # a proxy's loopback is another
            return session.request(method, url, headers=headers, verify=self.verify, timeout=timeout, **options)


def read_tokens(folder: Path) -> dict[str, Any]:
    """What TorchServe writes to the folder that it was started in: a key for each API, where tokens are on."""
    try:
        return dict(json.loads((folder / "key_file.json").read_text()))
    except (OSError, ValueError):  # tokens are off, or the file is being written
        return {}
