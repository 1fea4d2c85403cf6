"""Watching the time of day: an alert is open while it is not plausible, and a person may say that it is right.

Each process watches, since each dates what it writes. They share what they know of the machine's time in the data
folder (`clock_record`), so all follow when a person has acknowledged the alert to one.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.alerts.record import close_alert, open_alert, raise_alert
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert, Instance, JobEvent
from dicom_node.database.words import AlertKind
from dicom_node.system.clock import LARGEST_STEP_S, LONGEST_OFF_S, Anchor, clock, lead, uptime, utc_now
from dicom_node.system.clock_record import ClockRecord, read_record, write_record
from dicom_node.system.log import get_logger
from dicom_node.system.loops import keep_doing

_LOOK_EVERY_S = 2.0
_RECORD_EVERY_S = 60.0
# The alert is closed after this time (seconds), so that every process has seen a good clock before it finds the alert
# closed: otherwise it would take that for an acknowledgement.
_SETTLED_S = 10.0
_ADVICE = (
    "nothing is analysed, sent or deleted until the clock is set right, or this is acknowledged because it is right"
)


def settle_clock(data_dir: Path, database: Database) -> None:
    """Learn at the start of a process what is known about the time; from then on `utc_now` is safe.

    A machine that was just started has only its clock. That is believed unless the node has a record of a later time,
    or of one that lies too far back.
    """
    record = read_record(data_dir)
    known = record.anchor()
    clock.set(known or _first_anchor(record, database))


def _first_anchor(record: ClockRecord, database: Database) -> Anchor:
    with database.read() as session:
        newest = _newest_row(session)
    earliest = max(record.last_at, newest if newest > record.rows_until else 0.0)
    now = time.time()
    is_late = record.last_at > 0 and now > record.last_at + LONGEST_OFF_S
    if now < earliest - LARGEST_STEP_S or is_late:
        return Anchor(earliest - uptime(), is_sure=False)
    return Anchor(lead())


def _newest_row(session: Session) -> float:
    """When the last image came or the last step of a job was made (seconds since 1970); 0 if there is none."""
    image = session.scalar(select(Instance.received_at).order_by(Instance.id.desc()).limit(1))
    step = session.scalar(select(JobEvent.at).order_by(JobEvent.id.desc()).limit(1))
    return max((at.timestamp() for at in (image, step) if at is not None), default=0.0)


class ClockWatch:
    """Compares the time of day with what is known of it, keeps that in the data folder, and tells.

    Parameters
    ----------
    data_dir, database
        The node's data folder and database.
    """

    def __init__(self, data_dir: Path, database: Database) -> None:
        self._data_dir = data_dir
        self._database = database
        self._subject = socket.gethostname()[:100]
        # The open alert that this process knows of; its cause was there at each look since.
        self._alert: int | None = None
        self._well_since: float | None = None
        self._is_told_over = False
        self._recorded_at: float | None = None

    def look(self) -> None:
        """One look at the clock."""
        if clock.fault():
            self._well_since, self._is_told_over = None, False
            self._adopt_what_others_know()
        fault = clock.fault()
        if fault:
            self._keep(clock.anchor)
            self._tell(fault)
            return
        self._alert = None
        self._note_well()

    def _adopt_what_others_know(self) -> None:
        known = read_record(self._data_dir).anchor()
        if known is not None and known.is_sure and known.fits(lead()):
            clock.set(known)

    def _tell(self, fault: str) -> None:
        """Open the alert; if somebody has closed it since, the time is right."""
        with self._database.write() as session:
            if self._alert is not None:
                alert = session.get(Alert, self._alert)
                if alert is not None and alert.closed_at is not None:
                    self._accept(session)
                    return
            alert = open_alert(session, AlertKind.CLOCK, self._subject)
            if alert is None:
                raise_alert(session, AlertKind.CLOCK, self._subject, f"{fault}; {_ADVICE}")
                alert = open_alert(session, AlertKind.CLOCK, self._subject)
            self._alert = alert.id if alert is not None else None

    def _accept(self, session: Session) -> None:
        """A person has said that the time is right."""
        clock.set(Anchor(lead()))
        record, now = read_record(self._data_dir), time.time()
        write_record(self._data_dir, record.with_anchor(Anchor(lead()), last_at=now, rows_until=_newest_row(session)))
        self._alert = None
        get_logger().warning("clock_accepted", time=utc_now().isoformat(timespec="seconds"))

    def _note_well(self) -> None:
        now = time.monotonic()
        self._well_since = self._well_since or now
        if not self._is_told_over and now - self._well_since >= _SETTLED_S:
            self._close()
            self._is_told_over = True
        if self._recorded_at is None or now - self._recorded_at >= _RECORD_EVERY_S:
            self._keep(clock.anchor)
            self._recorded_at = now

    def _close(self) -> None:
        with self._database.read() as session:
            if open_alert(session, AlertKind.CLOCK, self._subject) is None:
                return
        with self._database.write() as session:
            close_alert(session, AlertKind.CLOCK, self._subject)

    def _keep(self, anchor: Anchor | None) -> None:
        """Keep the anchor, unless the record has it."""
        record = read_record(self._data_dir)
        last_at = max(record.last_at, 0.0 if clock.fault() else time.time())
        known = record.anchor()
        is_new = known is None or anchor is None or known.is_sure != anchor.is_sure or not known.fits(anchor.lead_s)
        if anchor is not None and (is_new or last_at - record.last_at >= _RECORD_EVERY_S / 2):
            write_record(self._data_dir, record.with_anchor(anchor, last_at=last_at, rows_until=record.rows_until))


@contextmanager
def watching_clock(data_dir: Path, database: Database) -> Iterator[None]:
    """Watch the clock from a separate thread until the block ends."""
    over, watch = threading.Event(), ClockWatch(data_dir, database)
    arguments = (watch.look, over, _LOOK_EVERY_S)
    thread = threading.Thread(
        target=keep_doing, args=arguments, kwargs={"failed": "clock_watch_failed"}, name="clock", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)
