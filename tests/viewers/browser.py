"""Headless Chromium through ChromeDriver (W3C WebDriver), as far as a look at a page needs it."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
CHROMEDRIVER = Path("/usr/bin/chromedriver")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
)


class BrowserError(Exception):
    """What ChromeDriver says went wrong."""


class Browser:
    """One page."""

    def __init__(self, session: str) -> None:
        self._session = session
        # Whether its profile is as new, so that applications greet their user.
        self.is_fresh = True

    def open(self, url: str) -> None:
        _call("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a JavaScript function body returns."""
        return _call("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, *arguments: Any, timeout_s: float = 60, what: str = "") -> Any:
        """The first true value of a script. A script that fails, for instance while the page reloads, is run again."""
        deadline, why = time.monotonic() + timeout_s, ""
        while time.monotonic() < deadline:
            try:
                if value := self.run(script, *arguments):
                    return value
            except BrowserError as error:
                why = f" ({error})"
            time.sleep(0.5)
        raise TimeoutError(f"{what or script}: not within {timeout_s:.0f} s{why}")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(_call("GET", f"{self._session}/screenshot")))

    def log(self) -> list[str]:
        """What the page wrote to the console at level SEVERE."""
        entries = _call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]


def _call(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=180) as answer:
            return json.loads(answer.read())["value"]
    except urllib.error.HTTPError as error:
        raise BrowserError(json.loads(error.read())["value"]["message"].splitlines()[0]) from None


@contextmanager
def browsing(port: int, *, width: int = 1240, height: int = 1240) -> Iterator[Browser]:
    """A fresh browser with an empty profile."""
    driver = subprocess.Popen([CHROMEDRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with tempfile.TemporaryDirectory() as profile:
            session = _start(port, [*_FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profile}"])
            try:
                yield Browser(session)
            finally:
                _call("DELETE", session)
    finally:
        driver.terminate()
        driver.wait(20)


def _start(port: int, flags: list[str]) -> str:
    options = {"binary": str(CHROMIUM), "args": flags}
    wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    root = f"http://127.0.0.1:{port}"
    for attempt in range(40):
        try:
            value = _call("POST", f"{root}/session", {"capabilities": {"alwaysMatch": wanted}})
            return f"{root}/session/{value['sessionId']}"
        except OSError:
            if attempt == 39:
                raise
            time.sleep(0.25)
    raise AssertionError
