"""When a study is complete.

A study is complete when no image has come for the quiet time, or when its first image is older than the longest wait.
If the sender's archive says how many images there are, the study is complete when they are all here, or after the
longest wait.

A late image opens a new generation; its job analyses all images of the study again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlalchemy.orm import Session

from dicom_node.database.tables import Instance, StudyRow
from dicom_node.database.words import StudyState
from dicom_node.system.transitions import next_state

# An archive is asked only once no image has come for the first time, and about each study no more often than the
# second.
_SETTLED = timedelta(seconds=2)
_ASK_EVERY = timedelta(seconds=10)
# A cap, so that whatever number an archive gives fits the column.
_MOST_IMAGES = 2**31 - 1
# Both conditions are null, so neither holds, if the archive has said nothing.
_IS_SHORT = StudyRow.images_here < StudyRow.images_expected
IS_WHOLE = StudyRow.images_here >= StudyRow.images_expected


class StudyEvent(StrEnum):
    """What can happen to a study."""

    IMAGE_ARRIVED = "image_arrived"
    CLOSED = "closed"


TRANSITIONS: dict[tuple[StudyState, StudyEvent], StudyState] = {
    (StudyState.RECEIVING, StudyEvent.IMAGE_ARRIVED): StudyState.RECEIVING,
    (StudyState.RECEIVING, StudyEvent.CLOSED): StudyState.COMPLETE,
    # A late image opens the next generation.
    (StudyState.COMPLETE, StudyEvent.IMAGE_ARRIVED): StudyState.RECEIVING,
}


def image_arrived(session: Session, study_uid: str, now: datetime) -> StudyRow:
    """Note an image of a study: its quiet time starts again, and a complete study opens its next generation."""
    study = session.get(StudyRow, study_uid, with_for_update=True)
    if study is None:
        study = StudyRow(
            study_uid=study_uid,
            state=StudyState.RECEIVING,
            generation=1,
            first_received_at=now,
            last_received_at=now,
            stored_images=0,
            stored_bytes=0,
            files=_own_results(session, study_uid),
        )
        session.add(study)
    else:
        before = _move(study, StudyEvent.IMAGE_ARRIVED)
        study.last_received_at = now
        if before is StudyState.COMPLETE:
            study.generation, study.first_received_at = study.generation + 1, now
            study.asked_at = study.images_expected = study.images_here = study.fetched_at = None
    study.released_at = None
    session.flush()
    return study


def _own_results(session: Session, study_uid: str) -> int:
    """How many of our own results came back before any image of their study."""
    mine = (Instance.study_uid == study_uid, Instance.is_own_result, Instance.purged_at.is_(None))
    return session.scalar(select(func.count()).select_from(Instance).where(*mine)) or 0


def count_file(session: Session, study_uid: str) -> None:
    """Count one more file on disk; our own results may come back to a node that does not know their study."""
    session.execute(update(StudyRow).where(StudyRow.study_uid == study_uid).values(files=StudyRow.files + 1))


def close(study: StudyRow) -> None:
    """Stop waiting: the study is complete until a late image opens its next generation.

    Raises
    ------
    InvalidTransitionError
        If it is complete already.
    """
    _move(study, StudyEvent.CLOSED)


def _move(study: StudyRow, event: StudyEvent) -> StudyState:
    """Change a study's state, which happens nowhere else; returns the state before."""
    before = StudyState(study.state)
    study.state = next_state(TRANSITIONS, before, event, f"study {study.study_uid}")
    return before


def sender_released(session: Session, study_uids: Collection[str], now: datetime) -> None:
    """Note that the sender of the last images of these studies has released its association."""
    mine = (StudyRow.study_uid.in_(study_uids), StudyRow.state == StudyState.RECEIVING)
    session.execute(update(StudyRow).where(*mine).values(released_at=now))


# ---------------------------------------------------------------- what the sender's archive says


def to_ask(session: Session, senders: Collection[str], now: datetime) -> list[str]:
    """The studies of these senders (AE titles) about which their archive must be asked, the longest-waiting first."""
    long_ago = or_(
        StudyRow.asked_at.is_(None),
        StudyRow.asked_at <= now - _ASK_EVERY,
        StudyRow.asked_at < StudyRow.last_received_at,
    )
    settled = StudyRow.last_received_at <= now - _SETTLED
    unknown = or_(StudyRow.images_expected.is_(None), _IS_SHORT)
    query = select(StudyRow.study_uid).where(StudyRow.state == StudyState.RECEIVING, settled, long_ago, unknown)
    return list(session.scalars(query.where(_came_from(senders)).order_by(StudyRow.first_received_at)))


def to_fetch(session: Session, senders: Collection[str], now: datetime, quiet_seconds: float) -> list[str]:
    """The studies of these senders that lack images after their quiet time and for which nothing was fetched yet."""
    quiet = StudyRow.last_received_at <= now - timedelta(seconds=quiet_seconds)
    query = select(StudyRow.study_uid).where(StudyRow.state == StudyState.RECEIVING, quiet, _IS_SHORT)
    return list(session.scalars(query.where(StudyRow.fetched_at.is_(None), _came_from(senders))))


def _came_from(senders: Collection[str]) -> ColumnElement[bool]:
    return exists().where(Instance.study_uid == StudyRow.study_uid, Instance.calling_ae.in_(senders))


def note_count(session: Session, study_uid: str, series: Mapping[str, int] | None, asked_at: datetime) -> None:
    """Keep an archive's answer: the number of its images by series, or None if it did not answer.

    Without an answer, what the archive said before remains. An archive that knows no image of the study says nothing
    about it.
    """
    study = session.get(StudyRow, study_uid, with_for_update=True)
    if study is None or study.state != StudyState.RECEIVING:
        return
    study.asked_at = asked_at
    expected = min(_MOST_IMAGES, sum((series or {}).values()))
    if series and expected:
        here = _counts_here(session, study_uid)
        study.images_expected = expected
        study.images_here = sum(min(here.get(uid, 0), number) for uid, number in series.items())


def _counts_here(session: Session, study_uid: str) -> dict[str, int]:
    mine = (Instance.study_uid == study_uid, Instance.is_current, Instance.purged_at.is_(None))
    query = select(Instance.series_uid, func.count()).where(*mine).group_by(Instance.series_uid)
    return dict(session.execute(query).all())


def note_fetch(session: Session, study_uid: str, now: datetime) -> None:
    """Note that the missing images of a study are being fetched, which happens once for each generation."""
    session.execute(update(StudyRow).where(StudyRow.study_uid == study_uid).values(fetched_at=now))
