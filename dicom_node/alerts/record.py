"""Alerts: so that nothing fails silently. One open alert for each (kind, subject); repeats are counted.

Neither subject nor detail of an alert holds patient data: both are sent to people (`notifier`) and shown without a login.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dicom_node.database.tables import Alert
from dicom_node.system.clock import utc_now
from dicom_node.system.log import get_logger, printable


def raise_alert(session: Session, kind: str, subject: str, detail: str) -> None:
    """Open an alert or count one more occurrence of an open one; part of the caller's transaction."""
    subject, detail = printable(subject, 200), printable(detail, 500)
    get_logger().warning("alert", kind=kind, subject=subject, detail=detail)
    if not _count_again(session, kind, subject, detail):
        try:
            with session.begin_nested():
                now = utc_now()
                session.add(Alert(kind=kind, subject=subject, detail=detail, count=1, opened_at=now, last_at=now))
        except IntegrityError:
            # Another process opened it a moment ago.
            _count_again(session, kind, subject, detail)
    session.flush()


def _count_again(session: Session, kind: str, subject: str, detail: str) -> bool:
    """Count one more occurrence of an open alert; False if none is open."""
    alert = _open(session, kind, subject)
    if alert is None:
        return False
    alert.detail, alert.count, alert.last_at = detail, alert.count + 1, utc_now()
    return True


def close_alert(session: Session, kind: str, subject: str) -> None:
    """Close an alert whose cause has passed; nothing happens if none is open."""
    alert = _open(session, kind, printable(subject, 200))
    if alert is not None:
        alert.closed_at = utc_now()


def acknowledge(session: Session, alert_id: int) -> bool:
    """Close an alert by its number; False if there is no such open alert."""
    alert = session.get(Alert, alert_id)
    if alert is None or alert.closed_at is not None:
        return False
    alert.closed_at = utc_now()
    return True


def open_alerts(session: Session, limit: int = 100) -> Sequence[Alert]:
    """Open alerts, latest first."""
    query = select(Alert).where(Alert.closed_at.is_(None)).order_by(Alert.last_at.desc()).limit(limit)
    return session.scalars(query).all()


def _open(session: Session, kind: str, subject: str) -> Alert | None:
    query = select(Alert).where(Alert.kind == kind, Alert.subject == subject, Alert.closed_at.is_(None))
    return session.scalar(query.with_for_update())
