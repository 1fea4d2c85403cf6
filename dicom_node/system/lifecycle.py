"""What every process of the node does at its start and end: stop on a signal, tell supervisor or systemd that it is ready."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import threading
from contextlib import suppress
from types import FrameType

# File descriptor on which a child tells its supervisor that it is ready, and the supervisor's process id.
READY_FD = "SPINEONE_READY_FD"
SUPERVISOR_PID = "SPINEONE_SUPERVISOR_PID"
# Where systemd listens to a service of Type=notify.
NOTIFY_SOCKET = "NOTIFY_SOCKET"
_PARENT_CHECK_S = 1.0
# mallopt(3)
_M_ARENA_MAX = -8


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
    """Tell the supervisor or systemd, if there is one, that this process does its work now."""
    notify_systemd("READY=1")
    descriptor = os.environ.pop(READY_FD, None)
    if descriptor is not None:
        os.write(int(descriptor), b"ready\n")
        os.close(int(descriptor))


def notify_systemd(state: str) -> None:
    """Tell systemd something (sd_notify); nothing happens where it did not start this process."""
    address = os.environ.get(NOTIFY_SOCKET, "")
    if not address.startswith(("/", "@")):
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel, suppress(OSError):
        channel.sendto(state.encode(), target)


def keep_memory_flat() -> None:
    """Call once everything is imported, in a process that makes and forgets much for years.

    What start-up made stays, and the garbage collector would wait until a quarter as much had come to it before it looked for
    cycles: it counts from here on. On glibc new threads would get heaps of their own, and each keeps what its busiest moment
    needed: all share one.
    """
    gc.collect()
    gc.freeze()
    # The collector takes the number of what is left for what stays.
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, 1)
