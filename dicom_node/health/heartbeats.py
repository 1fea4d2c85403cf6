"""Which processes of the node are at work: each one writes a row every few seconds, on whatever machine it runs.

A committed beat proves that the process is alive and that the database answers. Only then are systemd's watchdog and the
file of a probe told that all is well.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from dicom_node.database.connection import Database
from dicom_node.database.tables import ProcessRow
from dicom_node.system.clock import utc_now
from dicom_node.system.lifecycle import say_alive
from dicom_node.system.log import get_logger
from dicom_node.system.loops import attempt, keep_doing
from spineone_core.version import software_version

ROLES = ("listener", "worker", "delivery", "web", "stow")
BEAT_EVERY_S = 10.0
# After this silence, about three missed beats, a process is thought to be gone.
SILENT_AFTER_S = 35.0
_FORGOTTEN_AFTER = timedelta(days=1)
# The log event for a beat that could not be written.
_FAILED = "process_heartbeat_failed"


class GpuMemory(NamedTuple):
    """A GPU, and how many bytes of its memory are free."""

    device: str
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Running:
    """A process, and how long ago it last said that it is alive."""

    role: str
    host: str
    pid: int
    started_at: datetime
    silent_s: float
    gpu: GpuMemory | None = None
    version: str = ""
    model: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether the process was heard from lately."""
        return self.silent_s <= SILENT_AFTER_S


def running(session: Session, *, now: datetime) -> list[Running]:
    """Every process that did not say goodbye, in the order of the roles."""
    rows = session.scalars(select(ProcessRow).order_by(ProcessRow.role, ProcessRow.id))
    return [
        Running(r.role, r.host, r.pid, r.started_at, silent, _gpu_of(r), r.version or "", r.model or "")
        for r in rows
        for silent in [max(0.0, (now - r.beat_at).total_seconds())]
    ]


def _gpu_of(row: ProcessRow) -> GpuMemory | None:
    if row.gpu_device is None or row.gpu_free_bytes is None or row.gpu_total_bytes is None:
        return None
    return GpuMemory(row.gpu_device, row.gpu_free_bytes, row.gpu_total_bytes)


@contextmanager
def beating(
    database: Database,
    role: str,
    *,
    is_well: Callable[[], bool] = lambda: True,
    gpu: Callable[[], tuple[str, int, int] | None] = lambda: None,
    model: str = "",
    every_s: float = BEAT_EVERY_S,
) -> Iterator[None]:
    """Say that this process is alive, from a separate thread, until the block ends.

    Parameters
    ----------
    is_well
        Asked before each beat; while it says no, neither the row nor systemd's watchdog is updated.
    gpu
        Measures the GPU of this process: its name, free bytes and total bytes; None if there is no GPU.
    model
        Name, version and digest of the model of a worker.
    """
    heart = _Heart(database, role, is_well, gpu, every_s, model)
    heart.start()
    try:
        yield
    finally:
        heart.stop()


class _Heart:
    def __init__(
        self,
        database: Database,
        role: str,
        is_well: Callable[[], bool],
        gpu: Callable[[], tuple[str, int, int] | None],
        every_s: float,
        model: str,
    ) -> None:
        self._database = database
        self._role = role
        self._is_well = is_well
        self._gpu = gpu
        self._every_s = every_s
        self._model = model[:200]
        self._over = threading.Event()
        self._row: int | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(timeout=5)
        attempt(self._say_goodbye, _FAILED)

    def _run(self) -> None:
        # While the database is locked or cannot be reached, the row grows old, as it should.
        keep_doing(self._beat_if_well, self._over, self._every_s, failed=_FAILED)

    def _beat_if_well(self) -> None:
        if self._is_well():
            self._beat()

    def _beat(self) -> None:
        now, measured = utc_now(), self._measured()
        with self._database.write() as session:
            mine = update(ProcessRow).where(ProcessRow.id == self._row).values(beat_at=now, **measured)
            if self._row is None or session.scalar(mine.returning(ProcessRow.id)) is None:
                self._row = self._sign_in(session, now, measured)
        say_alive()

    def _measured(self) -> dict[str, str | int | None]:
        try:
            device, free, total = self._gpu() or (None, None, None)
        except Exception:  # the GPU was lost; the worker's jobs fail and say so
            get_logger().exception("gpu_not_measured")
            device, free, total = None, None, None
        return {"gpu_device": device, "gpu_free_bytes": free, "gpu_total_bytes": total}

    def _sign_in(self, session: Session, now: datetime, measured: dict[str, str | int | None]) -> int:
        """Write a new row; delete long-silent rows, and rows of this host that have our process number."""
        host, pid = socket.gethostname()[:100], os.getpid()
        session.execute(delete(ProcessRow).where(ProcessRow.beat_at < now - _FORGOTTEN_AFTER))
        session.execute(delete(ProcessRow).where(ProcessRow.host == host, ProcessRow.pid == pid))
        what = {"version": software_version()[:40], "model": self._model or None}
        row = ProcessRow(role=self._role, host=host, pid=pid, started_at=now, beat_at=now, **what, **measured)
        session.add(row)
        session.flush()
        return row.id

    def _say_goodbye(self) -> None:
        if self._row is not None:
            with self._database.write() as session:
                session.execute(delete(ProcessRow).where(ProcessRow.id == self._row))
