"""Where a result comes from: the generation of its study, and what is different from the study's last result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.analysis.analyse import Reading
from dicom_node.analysis.jobs import Claim
from dicom_node.analysis.products import Origin
from dicom_node.database.tables import PatientRelease, ResultFile, ResultRow
from dicom_node.database.words import Cause
from dicom_node.images.patients import PatientIdentity
from spineone_core.imaging.files import read_dataset


@dataclass(frozen=True, slots=True)
class _Last:
    """A study's last result: its row, and one of its objects, which repeats the attributes of patient and study."""

    row: ResultRow
    header: Dataset


def origin_of(session: Session, data_dir: Path, claim: Claim, reading: Reading) -> Origin:
    """The origin of a result that is about to be made."""
    last = _last(session, data_dir, claim.study_uid)
    if claim.cause is not None:
        return Origin(claim.generation, claim.cause)
    released = session.get(PatientRelease, claim.study_uid)
    if released is not None and (last is None or last.row.created_at < released.released_at):
        return Origin(claim.generation, Cause.RELEASED)
    return Origin(claim.generation, _cause(last, reading))


def _cause(last: _Last | None, reading: Reading) -> Cause:
    if last is None:
        return Cause.FIRST
    row, key = last.row, reading.key
    if row.model_digest != key.model_digest:
        return Cause.NEW_MODEL
    if row.settings_digest != key.settings_digest:
        return Cause.NEW_SETTINGS
    before, now = last.header, reading.headers.patient(reading.detection.sop_instance_uid)
    if before and _text(before, "PatientID") != _text(now, "PatientID"):
        return Cause.CORRECTED_PATIENT
    if before and _text(before, "AccessionNumber") != _text(now, "AccessionNumber"):
        return Cause.NEW_ACCESSION
    if _about(json.loads(row.findings)) != _about(reading.detection.to_json()):
        return Cause.CHANGED_SERIES
    if before and PatientIdentity.of(before) != PatientIdentity.of(now):
        return Cause.CORRECTED_PATIENT
    return Cause.CHANGED_IMAGES


def _about(findings: dict[str, object]) -> tuple[object, ...]:
    """What findings are about: the series, or the reason why there is none."""
    series = findings.get("series_uids") or [findings.get("series_uid")]
    return series, findings.get("reason")


def _last(session: Session, data_dir: Path, study_uid: str) -> _Last | None:
    row = session.scalar(
        select(ResultRow).where(ResultRow.study_uid == study_uid).order_by(ResultRow.id.desc()).limit(1)
    )
    if row is None:
        return None
    objects = select(ResultFile.path).where(ResultFile.result_id == row.id, ResultFile.sop_class_uid.is_not(None))
    name = session.scalar(objects.order_by(ResultFile.id).limit(1))
    return _Last(row, _header(data_dir / name) if name else Dataset())


def _header(path: Path) -> Dataset:
    """The header of a result's file; an empty one if it is lost."""
    try:
        return read_dataset(path, pixels=False)
    except (OSError, ValueError):
        return Dataset()


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip(" \0")
