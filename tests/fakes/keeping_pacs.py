"""A PACS as a separate process that may be killed. What it acknowledged is in a folder, with a file for each arrival.

    python -m tests.fakes.keeping_pacs PORT FOLDER

A file is named after the SOP Instance UID and how often it came: ``<uid>.<n>.dcm``.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from dicom_node.system.lifecycle import StopFlag
from tests.fakes.pacs import FakePacs, running_pacs


class KeepingPacs(FakePacs):
    """Writes before it answers."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._arrivals = Counter(path.name.rsplit(".", 2)[0] for path in folder.glob("*.dcm"))

    def on_store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self._arrivals[uid] += 1
        path = self._folder / f"{uid}.{self._arrivals[uid]}.dcm"
        part = path.with_suffix(".part")
        part.write_bytes(event.encoded_dataset())
        part.replace(path)
        return 0x0000


if __name__ == "__main__":
    stop = StopFlag().install()
    with running_pacs(int(sys.argv[1]), pacs=KeepingPacs(Path(sys.argv[2]))):
        print('{"event": "listening"}', flush=True)
        stop.wait()
