"""What every process of the node does at its start and end: stop on a signal, tell the supervisor that it is ready."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

# File descriptor on which a child tells its supervisor that it is ready, and the supervisor's process id.
READY_FD = "SPINEONE_READY_FD"
SUPERVISOR_PID = "SPINEONE_SUPERVISOR_PID"
_PARENT_CHECK_S = 1.0


class StopFlag:
    """Set by SIGTERM, SIGINT or the supervisor's death."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def install(self) -> StopFlag:
        """Listen to signals and, under a supervisor, to its death: an orphan would keep the port. Main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        supervisor = os.environ.get(SUPERVISOR_PID)
        if supervisor:
            threading.Thread(target=self._watch_parent, args=(int(supervisor),), daemon=True).start()
        return self

    def set(self) -> None:
        """Ask to stop."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep until asked to stop, at most ``seconds``; True if asked."""
        return self._event.wait(seconds)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Event.set takes a lock that the interrupted main thread may hold inside wait().
        threading.Thread(target=self._event.set, daemon=True).start()

    def _watch_parent(self, supervisor: int) -> None:
        while not self._event.wait(_PARENT_CHECK_S):
            if os.getppid() != supervisor:
                self._event.set()


def notify_ready() -> None:
    """Tell the supervisor, if there is one, that this process does its work now."""
    descriptor = os.environ.pop(READY_FD, None)
    if descriptor is not None:
        os.write(int(descriptor), b"ready\n")
        os.close(int(descriptor))
