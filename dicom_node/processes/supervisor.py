"""`serve` starts the node's processes in order, restarts one that ends by itself, and stops all of them together.

Workers come first: a node whose model cannot be loaded refuses to start before it has accepted anything.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.alerts.record import try_to_close, try_to_raise
from dicom_node.analysis import jobs
from dicom_node.analysis.lease import owner_name
from dicom_node.database.connection import Database
from dicom_node.database.words import AlertKind
from dicom_node.errors import NodeError
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import back_off
from dicom_node.system.lifecycle import NOTIFY_SOCKET, READY_FD, SUPERVISOR_PID, StopFlag, notify_ready
from dicom_node.system.log import get_logger
from dicom_node.system.loops import attempt

STOP_DEADLINE_S = 20.0
_READY_DEADLINE_S = 300.0
_RESTART_FIRST_S = 1.0
_RESTART_LONGEST_S = 60.0
# A process that ran this long (seconds) was well; its next failure counts as the first.
_WELL_AFTER_S = 60.0


class StartError(NodeError):
    """A process of the node did not start. Its own message appears above."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class Child:
    """One process of the node."""

    name: str
    command: list[str]
    # The node works without an optional process, so it does not wait for its start, which may fail.
    is_optional: bool = False
    is_worker: bool = False
    process: subprocess.Popen[bytes] | None = None
    ready_fd: int | None = None
    started: float = 0.0
    failures: int = 0
    restart_at: float = field(default=0.0)

    def start(self) -> None:
        """Start the process; it says through a pipe when it is ready."""
        reading, writing = os.pipe()
        environment = {**os.environ, READY_FD: str(writing), SUPERVISOR_PID: str(os.getpid())}
        # Only the supervisor talks to systemd.
        environment.pop(NOTIFY_SOCKET, None)
        # The child gets its own session: Ctrl-C then reaches only the supervisor, which stops its children in order.
        self.process = subprocess.Popen(
            self.command, env=environment, pass_fds=(writing,), start_new_session=True, stdin=subprocess.DEVNULL
        )
        os.close(writing)
        self.close_pipe()
        self.ready_fd = reading
        self.started = time.monotonic()

    def is_running(self) -> bool:
        """Whether the process is alive."""
        return self.process is not None and self.process.poll() is None

    def is_ready(self) -> bool:
        """Whether the process has said that it is ready."""
        if self.ready_fd is None:
            return True
        readable, _, _ = select.select([self.ready_fd], [], [], 0)
        if readable and os.read(self.ready_fd, 16):
            self.close_pipe()
            return True
        return False

    def close_pipe(self) -> None:
        """Close the pipe."""
        if self.ready_fd is not None:
            os.close(self.ready_fd)
            self.ready_fd = None

    def signal(self, number: int) -> None:
        """Send a signal if the process is alive."""
        if self.process is not None and self.is_running():
            self.process.send_signal(number)


class Supervisor:
    """Starts, watches and stops the node's processes."""

    def __init__(self, settings: NodeSettings, database: Database, config: Path) -> None:
        self._settings = settings
        self._database = database
        program = [sys.executable, "-m", "dicom_node.cli"]
        options = ["--config", str(config)]
        work = [*program, "work", *options]
        workers = [Child(f"worker-{n}", work, is_worker=True) for n in range(1, settings.worker.processes + 1)]
        self._children = [
            *workers,
            Child("delivery", [*program, "deliver", *options]),
            Child("listener", [*program, "listen", *options]),
        ]
        if settings.dicomweb.enabled:
            self._children.append(Child("stow", [*program, "stow", *options]))
        if settings.web.enabled:
            self._children.append(Child("web", [*program, "web", *options], is_optional=True))

    def is_well(self) -> bool:
        """Whether every process that the node cannot do without is alive."""
        return all(child.is_running() for child in self._children if not child.is_optional)

    def run(self, stop: StopFlag) -> None:
        """Start everything, watch until asked to stop, stop everything.

        Raises
        ------
        StartError
            If a process ends before it is ready.
        """
        try:
            for child in self._children:
                child.start()
                if not child.is_optional:
                    self._wait_until_ready(child, stop)
            if not stop.is_set():
                listener = self._settings.listener
                get_logger().info("ready", ae_title=listener.ae_title, host=listener.host, port=listener.port)
                notify_ready()
            while not stop.wait(0.5):
                for child in self._children:
                    self._watch(child)
        finally:
            self._stop_all()
        get_logger().info("stopped")

    def _wait_until_ready(self, child: Child, stop: StopFlag) -> None:
        deadline = time.monotonic() + _READY_DEADLINE_S
        while not child.is_ready() and not stop.is_set():
            if not child.is_running():
                assert child.process is not None
                code = child.process.returncode
                raise StartError(f"{child.name} did not start (exit status {code})", 2 if code == 2 else 1)
            if time.monotonic() > deadline:
                raise StartError(f"{child.name} was not ready after {_READY_DEADLINE_S:g} s", 1)
            stop.wait(0.05)

    def _watch(self, child: Child) -> None:
        now = time.monotonic()
        if child.is_running():
            if child.failures and now - child.started > _WELL_AFTER_S:
                child.failures = 0
                try_to_close(self._database, AlertKind.PROCESS_RESTARTED, child.name)
            return
        if child.process is not None:
            self._note_end(child, now)
        elif now >= child.restart_at:
            child.start()
            get_logger().info("process_restarted", child=child.name)

    def _note_end(self, child: Child, now: float) -> None:
        assert child.process is not None
        code, pid = child.process.returncode, child.process.pid
        child.process = None
        if child.is_worker:
            attempt(lambda: self._hand_back_jobs(pid), "hand_back_failed", child=child.name)
        child.failures += 1
        pause = back_off(child.failures, _RESTART_FIRST_S, _RESTART_LONGEST_S)
        child.restart_at = now + pause
        get_logger().error("process_ended", child=child.name, exit_status=code, restart_in_s=pause)
        why = f"ended by itself with exit status {code}"
        try_to_raise(self._database, AlertKind.PROCESS_RESTARTED, child.name, why)

    def _hand_back_jobs(self, pid: int) -> None:
        """Give the jobs of a dead worker back, so that they need not wait for the end of their leases."""
        with self._database.write() as session:
            given = jobs.expire_all_of(
                session, owner_name(pid), "died", max_attempts=self._settings.worker.max_attempts
            )
        for job in given:
            get_logger().warning("job_of_dead_worker", job=job)

    def _stop_all(self) -> None:
        """Stop the listener first, so that nothing new is accepted; a process that outlives the deadline is killed."""
        for child in reversed(self._children):
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_DEADLINE_S
        while time.monotonic() < deadline and any(child.is_running() for child in self._children):
            time.sleep(0.05)
        for child in self._children:
            if child.is_running():
                get_logger().warning("process_killed", child=child.name)
                child.signal(signal.SIGKILL)
            if child.process is not None:
                child.process.wait()
            child.close_pipe()
