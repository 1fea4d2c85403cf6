#!/usr/bin/env python3
"""Sends every MR series that has become stable in Orthanc to the SpineOne node, over Orthanc's REST API.

It is for an Orthanc whose configuration must not run Lua, and needs nothing but Python. `spineone` must be one of
Orthanc's DicomModalities. A file remembers what was sent: after a pause or a restart the script goes on where it was.

    route.py --orthanc http://127.0.0.1:8042 --modality spineone --state /var/lib/spineone-route/last

While the node does not answer C-ECHO, everything waits. A series that fails while the node answers is the series'
own trouble (the node refuses an image of it): the script says so, goes on with the others, and tries that one again
later, --attempts times in all. What was given up is listed in the file STATE.refused, one line each.

A user and password of Orthanc, if it asks for them, are taken from ORTHANC_USER and ORTHANC_PASSWORD.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class Orthanc:
    """Orthanc's REST API."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        user, password = os.environ.get("ORTHANC_USER"), os.environ.get("ORTHANC_PASSWORD", "")
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {secret}"} if user else {}

    def ask(self, path: str, body: str | None = None) -> Any:
        """The answer to a GET, or with a body to a POST."""
        data = None if body is None else body.encode()
        request = urllib.request.Request(f"{self._url}{path}", data=data, headers=self._headers)
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.loads(answer.read())


class NodeDownError(Exception):
    """The node does not answer C-ECHO, so that a failure says nothing about what was sent."""


class Route:
    """What is sent, what waits for another attempt, and what was given up."""

    def __init__(self, orthanc: Orthanc, modality: str, state: Path, attempts: int, pause_s: float) -> None:
        self._orthanc, self._modality = orthanc, modality
        self._state, self._refused = state, state.with_name(f"{state.name}.refused")
        self._attempts, self._pause_s = attempts, pause_s
        text = state.read_text() if state.exists() else ""
        known = json.loads(text or "0")
        # Earlier versions of this script wrote the number alone.
        self.last, self._waiting = (known, {}) if isinstance(known, int) else (known["last"], known["waiting"])

    def once(self) -> bool:
        """Handle the next changes, and what is due for another attempt; returns whether no change is left."""
        page = self._orthanc.ask(f"/changes?since={self.last}&limit=100")
        for change in page["Changes"]:
            if change["ChangeType"] == "StableSeries":
                self._handle(change["ID"], 1)
            self.last = int(change["Seq"])
            self._remember()
        for series, (tried, due) in list(self._waiting.items()):
            if time.time() >= due:
                self._handle(series, tried + 1)
                self._remember()
        return bool(page["Done"])

    def _handle(self, series: str, attempt: int) -> None:
        """Send a series, if it is MR and still there; one that the node refuses is put back or given up."""
        try:
            tags = self._orthanc.ask(f"/series/{series}")["MainDicomTags"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            self._waiting.pop(series, None)
            return
        if tags.get("Modality") != "MR":
            return
        uid = tags["SeriesInstanceUID"]
        try:
            self._orthanc.ask(f"/modalities/{self._modality}/store", series)
        except urllib.error.HTTPError as error:
            if error.code in (401, 403, 404):
                raise
            self._check_node()
            self._refuse(series, uid, attempt)
            return
        self._waiting.pop(series, None)
        print(f"sent {uid}", flush=True)

    def _check_node(self) -> None:
        try:
            self._orthanc.ask(f"/modalities/{self._modality}/echo", "{}")
        except urllib.error.HTTPError as error:
            raise NodeDownError(f"{self._modality} does not answer C-ECHO") from error

    def _refuse(self, series: str, uid: str, attempt: int) -> None:
        if attempt < self._attempts:
            self._waiting[series] = (attempt, time.time() + self._pause_s * 2**attempt)
            print(f"not taken {uid}, attempt {attempt} of {self._attempts}: tried again later", flush=True)
            return
        self._waiting.pop(series, None)
        with self._refused.open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {uid} {series}\n")
        print(f"GIVEN UP {uid}: not taken {attempt} times; see Orthanc's log and the node's alerts", flush=True)

    def _remember(self) -> None:
        """Write the state whole or not at all: a script that is killed here goes on where it was."""
        new = self._state.with_name(f"{self._state.name}.new")
        new.write_text(json.dumps({"last": self.last, "waiting": self._waiting}))
        new.replace(self._state)


def main() -> None:
    """Ask for changes until stopped; while Orthanc or the node does not answer, everything waits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--orthanc", default="http://127.0.0.1:8042")
    parser.add_argument("--modality", default="spineone", help="the node's name among Orthanc's DicomModalities")
    parser.add_argument("--state", type=Path, required=True, help="file that says what was handled and what waits")
    parser.add_argument("--every", type=float, default=5.0, help="pause between two questions, in seconds")
    parser.add_argument("--attempts", type=int, default=5, help="how often a series is sent that the node refuses")
    options = parser.parse_args()
    route = Route(Orthanc(options.orthanc), options.modality, options.state, options.attempts, options.every * 6)
    while True:
        done = True
        try:
            done = route.once()
        except (OSError, ValueError, KeyError, NodeDownError) as error:
            print(f"tried again in {options.every:g} s: {error}", flush=True)
        if done:
            time.sleep(options.every)


if __name__ == "__main__":
    main()
