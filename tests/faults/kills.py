"""kill -9 at random moments, of several processes at a time, and how long each needs to serve again."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.node import Process

# The longest time (seconds) that a process works until it is killed; now and then it is killed while it starts.
_LONGEST_LIFE_S = 4.0
_KILLED_AT_START = 0.1
_LONGEST_START_S = 1.0
_START_WITHIN_S = 120.0


class Killer:
    """Kills processes until there have been enough kills.

    Parameters
    ----------
    roles
        The processes to kill, by name; `worker-1` and `worker-2` count as `worker`.
    """

    def __init__(self, roles: dict[str, Process], count: int, seed: int) -> None:
        self._left, self._lock = count, threading.Lock()
        self._stop = threading.Event()
        # By role: how often, and seconds from each start to serving.
        self.kills: Counter[str] = Counter()
        self.starts: dict[str, list[float]] = {}
        self.errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._haunt, args=(name, process, random.Random(f"{seed} {name}")), daemon=True)
            for name, process in roles.items()
        ]

    def start(self) -> None:
        """Kill from now on."""
        for thread in self._threads:
            thread.start()

    def is_over(self) -> bool:
        """Whether there have been enough kills and all processes serve again."""
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Kill no more."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _haunt(self, name: str, process: Process, source: random.Random) -> None:
        role = name.partition("-")[0]
        while self._take():
            self._stop.wait(source.uniform(0, _LONGEST_LIFE_S))
            if not process.is_running():
                self.errors.append(f"{name} had ended by itself")
            process.kill()
            self._count(role)
            while source.random() < _KILLED_AT_START and self._take():
                process.launch()
                self._stop.wait(source.uniform(0, _LONGEST_START_S))
                process.kill()
                self._count(role)
            self._start_again(name, role, process)

    def _start_again(self, name: str, role: str, process: Process) -> None:
        began = time.monotonic()
        process.launch()
        while not process.is_ready():
            if not process.is_running() or time.monotonic() - began > _START_WITHIN_S:
                self.errors.append(f"{name} did not start again")
                return
            time.sleep(0.01)
        with self._lock:
            self.starts.setdefault(role, []).append(time.monotonic() - began)

    def _take(self) -> bool:
        """Whether one more kill is wanted."""
        with self._lock:
            if self._left <= 0 or self._stop.is_set():
                return False
            self._left -= 1
            return True

    def _count(self, role: str) -> None:
        with self._lock:
            self.kills[role] += 1


@contextmanager
def killing(roles: dict[str, Process], count: int, seed: int) -> Iterator[Killer]:
    """Kills from now on; the block may wait for their end."""
    killer = Killer(roles, count, seed)
    killer.start()
    try:
        yield killer
    finally:
        killer.stop()
