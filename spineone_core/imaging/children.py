"""The child processes that decode pixels: one at a time, each with limits on memory and time.

Processes that belong together share one place: their memory adds up. A place is a lock on a file, which a child inherits: it is
taken as long as the child lives, also when its parent was killed.
"""

from __future__ import annotations

import fcntl
import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Address space of a child (bytes), and how long it may work (seconds).
MEMORY_LIMIT = 3 * 2**30
TIME_LIMIT_S = 120
# How long to wait for the place for a series (seconds): other workers decode one series after the other meanwhile.
WAIT_S = 3600.0
_LOOK_EVERY_S = 0.05
_place = threading.Lock()
_shared: Path | None = None


def share_place(file: Path | None) -> None:
    """From now on there is one place for all processes that share this file; None: one for this process alone."""
    global _shared
    _shared = file


@contextmanager
def place_for_child(timeout_s: float) -> Iterator[tuple[int, ...]]:
    """The place for a child while the block runs; yields the descriptors that the child must inherit.

    Raises
    ------
    TimeoutError
        If it was not free for so long.
    OSError
        If the shared file cannot be opened.
    """
    deadline = time.monotonic() + timeout_s
    if not _place.acquire(timeout=timeout_s):
        raise TimeoutError("other pixels are being decoded")
    try:
        if _shared is None:
            yield ()
            return
        with _shared.open("ab") as file:
            _lock(file.fileno(), deadline)
            yield (file.fileno(),)
    finally:
        _place.release()


def _lock(descriptor: int, deadline: float) -> None:
    """Take the lock of a file; it ends with the last process that has the descriptor."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError("other pixels are being decoded") from None
            time.sleep(_LOOK_EVERY_S)


def child_environment() -> dict[str, str]:
    """The environment of a child: it finds this package where we found it, installed or not, and starts no threads."""
    places = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def limit_this_child() -> None:
    """Called by a child at its start: it may use so much memory and processor time, and leaves no core behind."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    # Its parent ends it sooner, unless that was killed.
    resource.setrlimit(resource.RLIMIT_CPU, (TIME_LIMIT_S, TIME_LIMIT_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
