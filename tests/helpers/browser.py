"""Headless Chromium for tests, spoken to over two pipes in the DevTools protocol: no driver, no server, no network.

    with Browser.open(tmp_path) as browser:
        browser.go(page)
        browser.ask("document.title")

Every message of the console, every exception and every request that fails is kept in ``complaints``; requests to
anything but files are kept in ``requests``.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)
_SECONDS = 3600.0


def chromium() -> str:
    """The browser's path. Skips the test where there is none; fails in CI, where .ci/run installs it."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "no Chromium: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found


class Browser:
    """One page of one browser."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._buffer, self._number, self._session = b"", 0, ""
        self._events: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self.requests: list[str] = []

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Browser]:
        """A browser with a profile of its own in ``folder``, gone when left."""
        path = chromium()
        to_child, write = os.pipe()
        read, from_child = os.pipe()
        with (folder / "chromium.log").open("wb") as log:
            # the protocol wants descriptors 3 and 4
            command = 'in=$1 out=$2; shift 2; eval "exec \\"\\$@\\" 3<&$in 4>&$out"'
            words = [path, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
            process = subprocess.Popen(
                ["bash", "-c", command, "bash", str(to_child), str(from_child), *words],
                pass_fds=(to_child, from_child),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(to_child), os.close(from_child)
        browser = cls(process, write, read)
        try:
            browser._attach()
            yield browser
        finally:
            process.kill()
            process.wait()
            os.close(write), os.close(read)

    def go(self, page: Path) -> None:
        """Open a file and wait until it is loaded."""
        self._events.clear()
        self.call("Page.navigate", url=page.absolute().as_uri())
        self._wait("Page.loadEventFired")

    def ask(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """A key, as a keyboard sends it: Tab, Enter, or a letter."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        text = {"Enter": "\r", "Tab": ""}.get(key, key)
        facts = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper())), "text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown", **facts)
        self.call("Input.dispatchKeyEvent", type="keyUp", **{**facts, "text": ""})

    def point(self, x: float, y: float) -> None:
        """Move the pointer to a place of the window, in CSS pixels."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def look(self, width: int = 1280, *, dark: bool = False, media: str = "screen", height: int = 900) -> None:
        """The size of the window, the reader's wish for light or dark, screen or print."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def picture(self, path: Path) -> Path:
        """A screenshot of the whole page, as a PNG."""
        self.ask("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
        self.ask("Promise.all([...document.images].map((image) => image.decode().catch(() => null))).then(() => 1)")
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def printed(self, path: Path) -> Path:
        """The page as it is printed, as a PDF."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True)["data"]))
        return path

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def _attach(self) -> None:
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def _wait(self, method: str) -> None:
        while not any(event["method"] == method for event in self._events):
            self._next()

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._buffer:
            ready = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))[0]
            data = os.read(self._read, 1 << 20) if ready else b""
            if not data:
                raise AssertionError("the browser says nothing any more")
            self._buffer += data
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        if "method" in message:
            self._hear(message)
        return message

    def _hear(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        method, facts = event["method"], event["params"]
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(facts["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(f"console.{facts['type']}: {[item.get('value') for item in facts['args']]}")
        elif method == "Log.entryAdded":
            self.complaints.append(
                f"{facts['entry']['level']}: {facts['entry']['text']} {facts['entry'].get('url', '')}"
            )
        elif method == "Network.loadingFailed" and not facts.get("canceled"):
            self.complaints.append(f"a request failed: {facts['errorText']}")
        elif method == "Network.requestWillBeSent" and not facts["request"]["url"].startswith(("file:", "data:")):
            self.requests.append(facts["request"]["url"])
