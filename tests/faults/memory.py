"""Resident memory of a process over time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.faults.node import Process

_EVERY_S = 1.0
# What a process needs at first does not count as growth.
_WARM_AFTER = 0.1


@dataclass
class Curve:
    """(seconds, bytes) of one process; another process is another curve."""

    points: list[tuple[float, int]] = field(default_factory=list)

    @property
    def growth(self) -> int:
        """Bytes from the end of the warm-up to the highest point after it; 0 where there are none."""
        values = [value for _, value in self.points]
        warm = values[int(len(values) * _WARM_AFTER) :]
        return max(warm) - warm[0] if warm else 0

    def at(self, share: float) -> tuple[float, int]:
        """The point at a share of the time."""
        return self.points[min(len(self.points) - 1, int(share * len(self.points)))]


@contextmanager
def watching(process: Process) -> Iterator[Curve]:
    """The memory of a process, measured while the block runs."""
    curve, over, began = Curve(), threading.Event(), time.monotonic()

    def watch() -> None:
        while not over.wait(_EVERY_S):
            if process.is_running():
                curve.points.append((time.monotonic() - began, process.memory))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield curve
    finally:
        over.set()
        watcher.join()
