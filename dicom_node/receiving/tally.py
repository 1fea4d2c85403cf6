"""Counting what strangers do, without letting them make us write: one writer reports it every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from dicom_node.system.clock import utc_now
from dicom_node.system.loops import attempt

# The pause between two reports, and how long an address is known after its last call (seconds).
REPORT_EVERY_S = 5.0
_KNOWN_FOR_S = 600.0
# How many pairs of address and reason are told apart.
MOST_KNOWN = 200
# Stands for all addresses beyond those.
OTHERS = "others"
_STOP_WITHIN_S = 35.0


@dataclass(frozen=True, slots=True)
class Count:
    """How often something happened since the last report, who was the last to do it, and when."""

    event: str
    why: str
    address: str
    calling: str = ""
    called: str = ""
    times: int = 1
    at: datetime = field(default_factory=utc_now)


class Tally:
    """Counts by event, reason and address. The keys come from strangers, so there is a largest number of them.

    Parameters
    ----------
    report
        Gets the counts since the last report, in the writer's thread. True if it has more to do that failed.
    every_s
        The pause between two reports (seconds).
    most
        How many keys are told apart; what comes beyond them is counted as `OTHERS`, one key for each reason.
    """

    def __init__(self, report: Callable[[Sequence[Count]], bool], every_s: float, most: int = MOST_KNOWN) -> None:
        self._report = report
        self._every_s, self._most = every_s, most
        self._lock = threading.Lock()
        self._reporting = threading.Lock()
        self._counts: dict[tuple[str, str, str], Count] = {}
        # When each key was last seen; it outlives the report, since every new key costs a row of the database.
        self._seen: dict[tuple[str, str, str], float] = {}
        self._is_due = threading.Event()
        self._stop = threading.Event()
        self._writer = threading.Thread(target=self._write, name="tally", daemon=True)

    def start(self) -> None:
        """Start the writer."""
        self._writer.start()

    def stop(self) -> None:
        """Report what is left and end the writer."""
        self._stop.set()
        self._is_due.set()
        if self._writer.ident is not None:
            self._writer.join(_STOP_WITHIN_S)
        self.flush()

    def note(self, count: Count) -> None:
        """Count something. This writes nothing and waits for nothing."""
        with self._lock:
            key = self._key(count)
            before = self._counts.get(key)
            self._counts[key] = replace(count, address=key[2], times=count.times + (before.times if before else 0))
        self._is_due.set()

    def flush(self) -> None:
        """Report now."""
        with self._reporting:
            with self._lock:
                counts, self._counts = list(self._counts.values()), {}
            if attempt(lambda: self._report(counts), "report_failed") and not self._stop.is_set():
                self._is_due.set()

    def _key(self, count: Count) -> tuple[str, str, str]:
        key, now = (count.event, count.why, count.address), time.monotonic()
        if key not in self._seen and len(self._seen) >= self._most:
            self._seen = {k: at for k, at in self._seen.items() if now - at < _KNOWN_FOR_S or k in self._counts}
            if len(self._seen) >= self._most:
                return count.event, count.why, OTHERS
        self._seen[key] = now
        return key

    def _write(self) -> None:
        while not self._stop.is_set():
            self._is_due.wait()
            self._is_due.clear()
            self.flush()
            self._stop.wait(self._every_s)
