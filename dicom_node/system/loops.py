"""Loops that run for years: repeating a step, and waiting for a lock that another process holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from dicom_node.system.files import exclusive_lock
from dicom_node.system.log import get_logger

_TURN_EVERY_S = 5.0


class Stop(Protocol):
    """What asks a loop to stop: a `StopFlag` or a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to stop."""

    def wait(self, seconds: float | None = None, /) -> bool:
        """Sleep until asked to stop, at most ``seconds``; True if asked."""


def attempt(step: Callable[[], object], failed: str, **fields: object) -> object:
    """Do a step that may fail. An error is logged as the event ``failed`` with these fields and goes no further.

    Returns what the step returns, or None if it failed.
    """
    try:
        return step()
    except Exception:  # a full disk, a locked database, an answer that nobody expects
        get_logger().exception(failed, **fields)
        return None


def keep_doing(
    step: Callable[[], bool | None],
    stop: Stop,
    every_s: float,
    *,
    failed: str,
    wait_first: bool = False,
    **fields: object,
) -> None:
    """Do a step again and again until asked to stop. The loop outlives an error in the step.

    Parameters
    ----------
    step
        Returns True if there may be more to do; it is then repeated without a pause.
    every_s
        The pause between two steps (seconds).
    failed, fields
        The event and fields of the log line about an error.
    wait_first
        Whether to pause before the first step too.
    """
    if wait_first and stop.wait(every_s):
        return
    while not stop.is_set():
        if attempt(step, failed, **fields) is not True:
            stop.wait(every_s)


@contextmanager
def wait_for_turn(
    lock: Path, stop: Stop, *, every_s: float = _TURN_EVERY_S, waits: str = "", **fields: object
) -> Iterator[bool]:
    """Hold a lock that only one process on a data folder can have; others try again until that process ends.

    Yields True once the lock is held, or False if asked to stop before that. A failed attempt is logged as the event
    ``waits`` with these fields, unless ``waits`` is empty.
    """
    while not stop.is_set():
        with exclusive_lock(lock) as mine:
            if mine:
                yield True
                return
        if waits:
            get_logger().warning(waits, **fields)
        stop.wait(every_s)
    yield False
