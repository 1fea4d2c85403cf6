"""A job's lease: it gets heartbeats while the job is being done, and is handed back when the process must stop."""

from __future__ import annotations

import os
import socket
import threading
import time

from dicom_node.analysis import jobs
from dicom_node.analysis.jobs import Claim
from dicom_node.database.connection import Database
from dicom_node.system.lifecycle import StopFlag
from dicom_node.system.log import get_logger

# How long a job may take to finish after the stop signal before it is handed back (seconds).
STOP_GRACE_S = 5.0


def owner_name(pid: int) -> str:
    """The owner of the leases that the process with this number on this machine takes."""
    return f"{socket.gethostname()}:{pid}"[:100]


class Lease:
    """Beats while a job is being done; after the stop signal it hands back an unfinished job and ends the process."""

    def __init__(self, database: Database, claim: Claim, heartbeat_s: float, stop: StopFlag | None) -> None:
        self._database = database
        self._claim = claim
        self._heartbeat_s = heartbeat_s
        self._stop = stop
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        next_beat = time.monotonic() + self._heartbeat_s
        stopping_since: float | None = None
        while not self._over.wait(0.2):
            now = time.monotonic()
            if self._stop is not None and self._stop.is_set():
                stopping_since = stopping_since or now
                if now - stopping_since > STOP_GRACE_S:
                    self._hand_back()
            if now >= next_beat:
                next_beat = now + self._heartbeat_s
                self._beat()

    def _beat(self) -> None:
        try:
            with self._database.write() as session:
                if not jobs.beat(session, self._claim):
                    get_logger().warning("lease_lost", job=self._claim.job_id)
        except Exception:  # one missed beat does no harm; a lost lease shows when the result is stored
            get_logger().exception("heartbeat_failed", job=self._claim.job_id)

    def _hand_back(self) -> None:
        """Give the job back and exit: the main thread is deep in the detector and cannot be interrupted."""
        try:
            with self._database.write() as session:
                jobs.hand_back(session, self._claim)
            get_logger().info("job_handed_back", job=self._claim.job_id)
        except Exception:  # then the lease will expire
            get_logger().exception("hand_back_failed", job=self._claim.job_id)
        os._exit(0)
