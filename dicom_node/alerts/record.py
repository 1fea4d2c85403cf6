"""Alerts make sure that nothing fails silently. There is one open alert for each (kind, subject); repeats are counted.

Neither the subject nor the detail of an alert holds patient data: both are sent to people (`notifier`) and shown
without a login.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert
from dicom_node.database.words import AlertKind
from dicom_node.system.clock import utc_now
from dicom_node.system.log import get_logger, printable
from dicom_node.system.loops import attempt


def raise_alert(
    session: Session, kind: AlertKind, subject: str, detail: str, *, times: int = 1, at: datetime | None = None
) -> None:
    """Open an alert, or count ``times`` more occurrences of an open one, within the caller's transaction.

    ``at`` is when the last of them happened; now, if that is None.
    """
    at = at or utc_now()
    subject, detail = printable(subject, 200), printable(detail, 500)
    get_logger().warning("alert", kind=kind, subject=subject, detail=detail)
    if not _count_again(session, kind, subject, detail, times, at):
        try:
            with session.begin_nested():
                session.add(Alert(kind=kind, subject=subject, detail=detail, count=times, opened_at=at, last_at=at))
        except IntegrityError:
            # Another process opened it a moment ago.
            _count_again(session, kind, subject, detail, times, at)
    session.flush()


def _count_again(session: Session, kind: AlertKind, subject: str, detail: str, times: int, at: datetime) -> bool:
    """Count more occurrences of an open alert; False if none is open."""
    alert = open_alert(session, kind, subject)
    if alert is None:
        return False
    alert.detail, alert.count, alert.last_at = detail, alert.count + times, at
    return True


def close_alert(session: Session, kind: AlertKind, subject: str) -> None:
    """Close an alert whose cause has passed; does nothing if none is open."""
    alert = open_alert(session, kind, printable(subject, 200))
    if alert is not None:
        alert.closed_at = utc_now()


def try_to_raise(database: Database, kind: AlertKind, subject: str, detail: str) -> None:
    """Raise an alert in its own transaction, for a caller that must go on even if that fails; a failure is logged."""

    def step() -> None:
        with database.write(even_if_lost=True) as session:
            raise_alert(session, kind, subject, detail)

    attempt(step, "alert_failed")


def try_to_close(database: Database, kind: AlertKind, subject: str) -> None:
    """Close an alert in its own transaction. If that fails, the alert stays open and the log says so."""

    def step() -> None:
        with database.write(even_if_lost=True) as session:
            close_alert(session, kind, subject)

    attempt(step, "alert_failed")


def acknowledge(session: Session, alert_id: int) -> bool:
    """Close an alert by its number; False if there is no such open alert."""
    alert = session.get(Alert, alert_id)
    if alert is None or alert.closed_at is not None:
        return False
    alert.closed_at = utc_now()
    return True


def open_alerts(session: Session, limit: int = 100) -> Sequence[Alert]:
    """The open alerts, latest first."""
    query = select(Alert).where(Alert.closed_at.is_(None)).order_by(Alert.last_at.desc()).limit(limit)
    return session.scalars(query).all()


def open_alert(session: Session, kind: AlertKind, subject: str) -> Alert | None:
    """The open alert of this kind about this subject, locked until the transaction ends; None if there is none."""
    query = select(Alert).where(Alert.kind == kind, Alert.subject == subject, Alert.closed_at.is_(None))
    return session.scalar(query.with_for_update())
