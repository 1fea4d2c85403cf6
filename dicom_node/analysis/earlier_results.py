"""Results that releases before 0.5.0 stored.

They knew a study again by the bytes of all its MR images, so that any other image that came late looked like another
study. What they had in hand can be told from the index, which keeps every version of every image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.analysis.analyse import Reading
from dicom_node.analysis.inputs import Input
from dicom_node.database.tables import Instance, Job, ResultRow
from dicom_node.dicom.identifiers import ResultKey
from spineone_core.findings import Detection
from spineone_core.imaging.headers import MR_IMAGES

Inputs = set[tuple[str, str]]

# Images that came while a job was being done may have been among its inputs or not. So many are tried.
_MOST_STATES = 50


def input_hash(key: ResultKey) -> str:
    """The hash by which a result is known again."""
    return _hash_of(key.inputs)


def _hash_of(inputs: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps(list(inputs)).encode()).hexdigest()


def recognise(session: Session, reading: Reading) -> None:
    """Give the study's newest result today's hash, if an earlier release made it of what was read now.

    That is so if every image that is used now was among its images, with the same bytes, and if it is about the same
    slice, or refuses for the same reason. From then on the result is known like any other.
    """
    key = reading.key
    newest = session.scalar(
        select(ResultRow)
        .where(
            ResultRow.study_uid == key.study_uid,
            ResultRow.model_digest == key.model_digest,
            ResultRow.settings_digest == key.settings_digest,
        )
        .order_by(ResultRow.id.desc())
        .limit(1)
        .with_for_update()
    )
    if newest is None or newest.input_hash == input_hash(key) or not _is_about_the_same(newest, reading.detection):
        return
    inputs = _inputs_of(session, newest)
    if inputs is not None and {(entry.sop_instance_uid, entry.sha256) for entry in _decisive(reading)} <= inputs:
        newest.input_hash = input_hash(key)
        session.flush()


def _is_about_the_same(result: ResultRow, detection: Detection) -> bool:
    found = json.loads(result.findings)
    mine = (detection.series_uid, detection.sop_instance_uid, detection.frame_number)
    same_slice = mine == (found.get("series_uid"), found.get("sop_instance_uid"), found.get("frame_number"))
    reason = detection.reason.value if detection.reason else None
    return (result.status, result.reason) == (detection.status.value, reason) and (reason is not None or same_slice)


def _decisive(reading: Reading) -> list[Input]:
    """The images that were read; of a study that is not analysable, the one that says whose it is."""
    if reading.detection.analysed:
        return list(reading.used)
    uid = str(reading.headers.patient(reading.detection.sop_instance_uid).SOPInstanceUID)
    return [entry for entry in reading.used if entry.sop_instance_uid == uid]


def _inputs_of(session: Session, result: ResultRow) -> Inputs | None:
    """The images that a result of an earlier release was made of; None if it is none, or they cannot be told."""
    job = session.scalar(select(Job).where(Job.result_id == result.id).order_by(Job.id).limit(1))
    if job is None:
        return None
    mine = (Instance.study_uid == result.study_uid, Instance.is_own_result.is_(False))
    rows = session.scalars(select(Instance).where(*mine).order_by(Instance.id)).all()
    for inputs in islice(_states(rows, job.created_at, job.finished_at), _MOST_STATES):
        if _hash_of(sorted(inputs)) == result.input_hash:
            return inputs
    return None


def _states(rows: Sequence[Instance], start: datetime, end: datetime | None) -> Iterator[Inputs]:
    """What the study held at the start of the job, and after each image that came while it was being done."""
    current: dict[str, Instance] = {}
    is_started = False
    for row in rows:
        if row.received_at > start and not is_started:
            is_started = True
            yield _as_inputs(current.values())
        if end is not None and row.received_at > end:
            return
        current[row.sop_instance_uid] = row
        if is_started:
            yield _as_inputs(current.values())
    if not is_started:
        yield _as_inputs(current.values())


def _as_inputs(rows: Iterable[Instance]) -> Inputs:
    kept = list(rows)
    used = [row for row in kept if row.sop_class_uid in MR_IMAGES] or kept
    return {(row.sop_instance_uid, row.sha256) for row in used}
