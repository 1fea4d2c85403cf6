#!/usr/bin/env python3
"""Sends every MR series that has become stable in Orthanc to the SpineOne node, over Orthanc's REST API.

It is for an Orthanc whose configuration must not run Lua, and needs nothing but Python. `spineone` must be one of
Orthanc's DicomModalities. A file remembers what was sent: after a pause or a restart the script goes on where it was.

    route.py --orthanc http://127.0.0.1:8042 --modality spineone --state /var/lib/spineone-route/last

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


def route_once(orthanc: Orthanc, modality: str, last: int) -> tuple[int, bool]:
    """Handle the next changes: the number of the last one handled, and whether none is left."""
    page = orthanc.ask(f"/changes?since={last}&limit=100")
    for change in page["Changes"]:
        if change["ChangeType"] == "StableSeries":
            send(orthanc, modality, change["ID"])
        last = int(change["Seq"])
    return last, bool(page["Done"])


def send(orthanc: Orthanc, modality: str, series: str) -> None:
    """Send a series, if it is MR and still there."""
    try:
        tags = orthanc.ask(f"/series/{series}")["MainDicomTags"]
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return
        raise
    if tags.get("Modality") == "MR":
        orthanc.ask(f"/modalities/{modality}/store", series)
        print(f"sent {tags['SeriesInstanceUID']}", flush=True)


def main() -> None:
    """Ask for changes until stopped; a change whose sending fails is tried again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--orthanc", default="http://127.0.0.1:8042")
    parser.add_argument("--modality", default="spineone", help="the node's name among Orthanc's DicomModalities")
    parser.add_argument("--state", type=Path, required=True, help="file with the number of the last change handled")
    parser.add_argument("--every", type=float, default=5.0, help="pause between two questions, in seconds")
    options = parser.parse_args()
    orthanc = Orthanc(options.orthanc)
    last = int(options.state.read_text()) if options.state.exists() else 0
    while True:
        done = True
        try:
            last, done = route_once(orthanc, options.modality, last)
            options.state.write_text(str(last))
        except (OSError, ValueError, KeyError) as error:
            print(f"tried again in {options.every:g} s: {error}", flush=True)
        if done:
            time.sleep(options.every)


if __name__ == "__main__":
    main()
