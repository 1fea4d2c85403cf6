"""The record of which receivers must still be told what about alerts.

A receiver is told when an alert opens, when it is over, and now and then while it stays open. A receiver that cannot be
reached is told later. After a crash something may be told twice, but nothing goes untold.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.orm import Session

from dicom_node.database.tables import Alert, NoticeRow, ReceiverRow
from dicom_node.database.words import AlertKind

# The most notices in one message; the rest follow in the next.
MOST_AT_ONCE = 2000
# How long after its own time stamp an alert may be committed.
_COMMIT_MARGIN = timedelta(minutes=10)


class AlertEvent(StrEnum):
    """What happened to an alert."""

    OPENED = "opened"
    STILL_OPEN = "still_open"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell: ``since`` is when it happened (for a reminder, when it became due)."""

    event: AlertEvent
    alert: Alert
    since: datetime


def meet(session: Session, name: str, now: datetime) -> ReceiverRow:
    """The row of a receiver. A new receiver is told of the alerts that are open now and of those that come later."""
    row = session.get(ReceiverRow, name)
    if row is None:
        row = ReceiverRow(name=name, since=now, attempts=0, last_message="")
        session.add(row)
        session.flush()
    return row


def forget_others(session: Session, names: Collection[str]) -> None:
    """Forget receivers that the settings no longer have."""
    session.execute(delete(NoticeRow).where(NoticeRow.receiver.not_in(names)))
    session.execute(delete(ReceiverRow).where(ReceiverRow.name.not_in(names)))


def due(
    session: Session, receiver: ReceiverRow, kinds: Collection[str], *, now: datetime, remind: timedelta
) -> list[Notice]:
    """What a receiver has not been told yet. Empty ``kinds`` mean all kinds; zero for ``remind`` means no reminders."""
    mine = and_(NoticeRow.alert_id == Alert.id, NoticeRow.receiver == receiver.name)
    is_open = Alert.closed_at.is_(None)
    # A receiver that can be told now need not hear that it could not be told before.
    own_silence = (Alert.kind == AlertKind.RECEIVER_DOWN) & (Alert.subject == receiver.name)
    of_interest = (~own_silence, *([Alert.kind.in_(kinds)] if kinds else []))
    news = select(Alert, NoticeRow).outerjoin(NoticeRow, mine)
    news = news.where(NoticeRow.id.is_(None), is_open | (Alert.closed_at >= receiver.since))
    told = select(Alert, NoticeRow).join(NoticeRow, mine).where(NoticeRow.is_over.is_(False))
    told = told.where(or_(~is_open, *([NoticeRow.told_at <= now - remind] if remind else [])))
    queries = [query.where(*of_interest).order_by(Alert.id).limit(MOST_AT_ONCE) for query in (news, told)]
    return [_notice(alert, row, remind) for query in queries for alert, row in session.execute(query)][:MOST_AT_ONCE]


def _notice(alert: Alert, told: NoticeRow | None, remind: timedelta) -> Notice:
    if alert.closed_at is not None:
        return Notice(AlertEvent.OVER, alert, alert.closed_at)
    if told is None:
        return Notice(AlertEvent.OPENED, alert, alert.opened_at)
    return Notice(AlertEvent.STILL_OPEN, alert, told.told_at + remind)


def mark_told(session: Session, name: str, notices: Sequence[Notice], now: datetime) -> None:
    """A receiver has been told these."""
    receiver = session.get_one(ReceiverRow, name, with_for_update=True)
    receiver.last_sent_at, receiver.attempts, receiver.next_attempt_at, receiver.last_message = now, 0, None, ""
    if len(notices) < MOST_AT_ONCE:
        # All older alerts were told, so they need not be searched again.
        receiver.since = max(receiver.since, now - _COMMIT_MARGIN)
    for notice in notices:
        mine = (NoticeRow.alert_id == notice.alert.id, NoticeRow.receiver == name)
        row = session.scalar(select(NoticeRow).where(*mine))
        if row is None:
            row = NoticeRow(alert_id=notice.alert.id, receiver=name)
            session.add(row)
        row.told_at, row.is_over = now, notice.event is AlertEvent.OVER


def mark_failed(session: Session, name: str, why: str, *, next_attempt_at: datetime) -> None:
    """A receiver could not be told."""
    receiver = session.get_one(ReceiverRow, name, with_for_update=True)
    receiver.attempts += 1
    receiver.next_attempt_at, receiver.last_message = next_attempt_at, why
