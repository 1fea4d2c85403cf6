"""Resident memory of processes over time."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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
        """Bytes from the level after the warm-up to that at the end, each the median over a tenth of the time.

        What a large object takes for a moment is no growth: `peak` tells of it. 0 where there are no points.
        """
        values = [value for _, value in self.points]
        tenth = max(1, int(len(values) * _WARM_AFTER))
        before, after = values[tenth : 2 * tenth], values[-tenth:]
        return int(statistics.median(after) - statistics.median(before)) if before else 0

    @property
    def seconds(self) -> float:
        """How long it was measured."""
        return self.points[-1][0] - self.points[0][0] if self.points else 0.0

    @property
    def peak(self) -> int:
        """The most bytes."""
        return max((value for _, value in self.points), default=0)

    def at(self, share: float) -> tuple[float, int]:
        """The point at a share of the time; (0, 0) where there are none."""
        if not self.points:
            return 0.0, 0
        return self.points[min(len(self.points) - 1, int(share * len(self.points)))]


@contextmanager
def watching(processes: Mapping[str, Process]) -> Iterator[dict[str, Curve]]:
    """The memory of processes by their names, measured while the block runs."""
    curves: dict[str, Curve] = {name: Curve() for name in processes}
    over, began = threading.Event(), time.monotonic()

    def watch() -> None:
        while not over.wait(_EVERY_S):
            for name, process in processes.items():
                # One that has just ended has none.
                with suppress(OSError, IndexError):
                    curves[name].points.append((time.monotonic() - began, process.memory))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield curves
    finally:
        over.set()
        watcher.join()
