"""Releasing a study whose images are of two patients: a person says which patient's images are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.alerts.record import close_alert
from dicom_node.analysis import jobs
from dicom_node.analysis.patient import TwoPatientsError
from dicom_node.database.tables import Instance, PatientRelease, StudyRow
from dicom_node.database.words import ACTIVE_JOB_STATES, AlertKind, JobState, StudyState
from dicom_node.errors import NodeError
from dicom_node.images.patients import PatientIdentity, read_identity
from dicom_node.images.records import inputs_of


class ReleaseError(NodeError):
    """The study cannot be released like this; the message says why. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Share:
    """The images of a study that are used, and how many others are left out.

    ``confirmed`` are the identities that the releasing person said are of one patient.
    """

    rows: list[Instance]
    left_out: int = 0
    confirmed: frozenset[PatientIdentity] = frozenset()


@dataclass(frozen=True, slots=True)
class Released:
    """What a release did. ``job`` is None if more images may still be coming."""

    used: int
    left_out: int
    job: int | None


def release(
    session: Session,
    data_dir: Path,
    study_uid: str,
    *,
    patient_id: str,
    issuer: str | None = None,
    birth_date: str | None = None,
    now: datetime,
) -> Released:
    """Use only the images of one patient from now on, and queue the study's analysis.

    Parameters
    ----------
    patient_id
        The images with this Patient ID are used; "" stands for those without one.
    issuer, birth_date
        Of the images with this Patient ID, only those with this issuer or birth date (YYYYMMDD) are used.

    Raises
    ------
    ReleaseError
        If the study is not put aside, its job is unfinished, or no image says this.
    """
    study = session.get(StudyRow, study_uid, with_for_update=True)
    _check_state(session, study, study_uid)
    assert study is not None
    rows = inputs_of(session, study_uid)
    found = [row for row in rows if _says(read_identity(data_dir / row.path), patient_id, issuer, birth_date)]
    if not found:
        raise ReleaseError(f"no image of study {study_uid} says this of its patient")
    newest = max(found, key=lambda row: row.id)
    session.merge(
        PatientRelease(
            study_uid=study_uid,
            sop_instance_uid=newest.sop_instance_uid,
            last_instance_id=max(row.id for row in rows),
            by_birth_date=birth_date is not None,
            released_at=now,
        )
    )
    session.flush()
    close_alert(session, AlertKind.TWO_PATIENTS, study_uid)
    is_complete = study.state == StudyState.COMPLETE
    job = jobs.enqueue(session, study_uid, study.generation, now=now).id if is_complete else None
    used = len(share_of(session, study_uid, rows, data_dir).rows)
    return Released(used, len(rows) - used, job)


def _check_state(session: Session, study: StudyRow | None, study_uid: str) -> None:
    if study is None:
        raise ReleaseError(f"there is no study {study_uid}")
    job = jobs.newest(session, study_uid)
    if job is not None and job.state in ACTIVE_JOB_STATES:
        raise ReleaseError(f"job {job.id} of study {study_uid} is {job.state}: wait until it has ended")
    is_put_aside = job is not None and job.state == JobState.FAILED and job.reason.startswith(TwoPatientsError.code)
    if not is_put_aside and session.get(PatientRelease, study_uid) is None:
        raise ReleaseError(f"study {study_uid} is not put aside because of its patient")


def _says(identity: PatientIdentity, patient_id: str, issuer: str | None, birth_date: str | None) -> bool:
    return (
        identity.patient_id == patient_id.strip()
        and (issuer is None or identity.issuer == issuer.strip())
        and (birth_date is None or identity.birth_date == birth_date)
    )


# ---------------------------------------------------------------- what a release means later


def share_of(session: Session, study_uid: str, rows: Sequence[Instance], data_dir: Path) -> Share:
    """The images that are used: all of them, or those of the patient that the study was released for.

    An image that was used at the release stays among them even if it was corrected since. So a correction of all of
    them is followed, and one of some is a contradiction again.
    """
    released = session.get(PatientRelease, study_uid)
    here = {row.sop_instance_uid: row for row in rows}
    if released is None or released.sop_instance_uid not in here:
        return Share(list(rows))
    now = {uid: read_identity(data_dir / row.path) for uid, row in here.items()}
    then = _identities_then(session, released, here, now, data_dir)
    named = released.sop_instance_uid
    if named not in then:
        # It was corrected since, and the correction taken back: a person must look at it again.
        return Share(list(rows))
    confirmed = {uid for uid, identity in then.items() if _belongs(identity, then[named], released)}
    kept = [row for uid, row in here.items() if uid in confirmed or _belongs(now[uid], now[named], released)]
    return Share(kept, len(rows) - len(kept), frozenset(then[uid] for uid in confirmed))


def _identities_then(
    session: Session,
    released: PatientRelease,
    here: Mapping[str, Instance],
    now: Mapping[str, PatientIdentity],
    data_dir: Path,
) -> dict[str, PatientIdentity]:
    """What the images said when the person released the study, by SOP Instance UID."""
    mine = (Instance.study_uid == released.study_uid, Instance.id <= released.last_instance_id)
    query = select(Instance).where(*mine, Instance.is_own_result.is_(False)).order_by(Instance.version)
    versions = {row.sop_instance_uid: row for row in session.scalars(query)}
    return {
        uid: now[uid] if row.id == here[uid].id else read_identity(data_dir / row.path)
        for uid, row in versions.items()
        if uid in here
    }


def _belongs(identity: PatientIdentity, named: PatientIdentity, released: PatientRelease) -> bool:
    """Whether an image belongs to the patient of the one that stands for the release."""
    issuers = {identity.issuer, named.issuer} - {""}
    same_date = not released.by_birth_date or identity.birth_date == named.birth_date
    return identity.patient_id == named.patient_id and len(issuers) < 2 and same_date
