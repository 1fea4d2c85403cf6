"""What every process of the node does when it starts and ends.

It stops on a signal, and it tells the supervisor or systemd when it is ready.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

# The file descriptor on which a child tells its supervisor that it is ready, and the supervisor's process ID.
READY_FD = "SPINEONE_READY_FD"
SUPERVISOR_PID = "SPINEONE_SUPERVISOR_PID"
# The socket on which systemd listens to a service with Type=notify.
NOTIFY_SOCKET = "NOTIFY_SOCKET"
# A file that each process touches with every beat, for a probe that asks for its age (Kubernetes has no sd_notify).
ALIVE_FILE = "SPINEONE_ALIVE_FILE"
_PARENT_CHECK_S = 1.0
# mallopt(3)
_M_ARENA_MAX = -8


class StopFlag:
    """Set by SIGTERM, SIGINT or the supervisor's death."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def install(self) -> StopFlag:
        """Watch for signals and, under a supervisor, for its death: an orphan would keep the port. Main thread only."""
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
        if seconds is not None:
            return self._event.wait(seconds)
        # Python runs a signal's handler in the main thread only. Where the kernel gives the signal to another thread,
        # a wait without end would never let it run.
        while not self._event.wait(_PARENT_CHECK_S):
            pass
        return True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Event.set takes a lock that the interrupted main thread may hold inside wait().
        threading.Thread(target=self._event.set, daemon=True).start()

    def _watch_parent(self, supervisor: int) -> None:
        while not self._event.wait(_PARENT_CHECK_S):
            if os.getppid() != supervisor:
                self._event.set()


def notify_ready() -> None:
    """Tell the supervisor or systemd, if there is one, that this process is ready."""
    notify_systemd("READY=1")
    descriptor = os.environ.pop(READY_FD, None)
    if descriptor is not None:
        os.write(int(descriptor), b"ready\n")
        os.close(int(descriptor))


def notify_systemd(state: str) -> None:
    """Send systemd a state (sd_notify); does nothing if systemd did not start this process."""
    address = os.environ.get(NOTIFY_SOCKET, "")
    if not address.startswith(("/", "@")):
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel, suppress(OSError):
        channel.sendto(state.encode(), target)


def say_alive() -> None:
    """Tell whoever watches this process from outside that all is well: systemd's watchdog, and the file of a probe."""
    notify_systemd("WATCHDOG=1")
    path = os.environ.get(ALIVE_FILE)
    if path:
        Path(path).touch()


def keep_memory_flat() -> None:
    """Keep the memory of a process that runs for years from growing. Call this once everything is imported.

    The objects made at start-up stay, and the garbage collector would look for cycles only once a quarter as many new
    ones had been added. Freezing them makes the collector count from here on. On glibc each new thread would get a heap
    of its own, which keeps what its busiest moment needed; here all threads share one.
    """
    gc.collect()
    gc.freeze()
    # The collector takes the number of objects that are left as the number that stay.
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, 1)
