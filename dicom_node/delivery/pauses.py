"""Destinations to which an operator lets nothing be sent for a while. What is meant for them waits, and is kept."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dicom_node.database.tables import PauseRow
from dicom_node.system.clock import utc_now


def pause(session: Session, destination: str) -> bool:
    """Let nothing be sent to a destination, nor ask it anything, until `resume`; False if that is so already."""
    if session.get(PauseRow, destination) is not None:
        return False
    session.add(PauseRow(destination=destination, since=utc_now()))
    return True


def resume(session: Session, destination: str) -> bool:
    """End a pause; False if there was none."""
    gone = session.scalars(
        delete(PauseRow).where(PauseRow.destination == destination).returning(PauseRow.destination)
    ).all()
    return bool(gone)


def paused_since(session: Session) -> dict[str, datetime]:
    """The destinations that are paused, and since when."""
    return {row.destination: row.since for row in session.scalars(select(PauseRow))}
