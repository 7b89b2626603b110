"""A headless Chromium that a test drives through the DevTools protocol, over a pipe: no package, no open port.

https://chromedevtools.github.io/devtools-protocol/
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless", "--remote-debugging-pipe", "--window-size=1100,800", "--no-first-run", "--disable-gpu")
KEYS = {"ArrowDown": 40, "Delete": 46, " ": 32, "Tab": 9}


def chromium() -> str | None:
    """The path of an installed Chromium."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One page of a running Chromium."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin
        assert process.stdout
        self.commands, self.answers = process.stdin, process.stdout
        self.number = 0
        self.session: dict[str, str] = {}
        self.complaints: list[str] = []  # uncaught errors and violations of the page's security policy
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result; what the page complains of meanwhile is kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters} | self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        while (answer := self.receive()).get("id") != self.number:
            entry = answer.get("params", {}).get("entry", {})
            refused = entry.get("source") == "network"  # the server's refusals are the page's to explain
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded") and not refused:
                self.complaints.append(json.dumps(answer["params"]))
        assert "error" not in answer, (method, answer["error"])
        return dict(answer["result"])

    def receive(self) -> dict[str, Any]:
        """The next message; they end with a zero byte."""
        message = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            assert byte, "Chromium has ended"
            message += byte
        return dict(json.loads(message))

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, expression: str, seconds: float = 20) -> None:
        """Until a JavaScript expression is true."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"{expression} did not come true; the page says: {self.text('body')}"
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """The visible text of an element."""
        return str(self.evaluate(f"document.querySelector({selector!r}).innerText"))

    def box(self, selector: str) -> dict[str, float]:
        """Where an element is, in CSS pixels."""
        return dict(self.evaluate(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()"))

    def drag(self, selector: str, points: Sequence[tuple[float, float]]) -> None:
        """Draw with the mouse through points of an element, 0..1 of its width and height."""
        box = self.box(selector)
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*places, places[-1]], strict=True):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def press(self, key: str, times: int = 1) -> None:
        """A key of KEYS."""
        typed = {"key": key, "windowsVirtualKeyCode": KEYS[key]}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", **typed)
            self.call("Input.dispatchKeyEvent", type="keyUp", **typed)

    def drop(self, selector: str, file: Path) -> None:
        """Drop a file on an element."""
        box = self.box(selector)
        where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        dragged = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, data=dragged, **where)

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file in an input element."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start Chromium and end it."""
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]  # Chromium's sandbox refuses to work for root
    # Chromium reads commands from descriptor 3 and writes answers to 4.
    shell = ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [*shell, str(chromium()), *flags, f"--user-data-dir={profile}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with process:
            try:
                yield Browser(process)
            finally:
                process.terminate()
