"""The child processes that decode pixels: one at a time for each process of ours, each with limits on memory and time."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Address space of a child (bytes), and how long it may work (seconds).
MEMORY_LIMIT = 3 * 2**30
TIME_LIMIT_S = 120
# How many exist at the same time, of all threads together: their memory adds up.
_MOST_CHILDREN = 1
_places = threading.BoundedSemaphore(_MOST_CHILDREN)


@contextmanager
def place_for_child(timeout_s: float) -> Iterator[None]:
    """A place for a child while the block runs.

    Raises
    ------
    TimeoutError
        If none was free for so long.
    """
    if not _places.acquire(timeout=timeout_s):
        raise TimeoutError("other pixels are being decoded")
    try:
        yield
    finally:
        _places.release()


def child_environment() -> dict[str, str]:
    """The environment of a child: it finds this package where we found it, installed or not, and starts no threads."""
    places = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def limit_this_child() -> None:
    """Called by a child at its start: it may use so much memory, and leaves no core behind."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
