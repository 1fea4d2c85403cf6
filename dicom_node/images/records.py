"""What the index says about received images, and whether their files still are what was received."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance
from dicom_node.system.files import sha256_of
from spineone_core.imaging.file_extent import read_flat


def is_intact(row: Instance, data_dir: Path) -> bool:
    """Whether the file of an instance has the bytes that were received.

    A file that was cut where an element ends can still be read without an error; size and SHA-256 show that it was cut.
    """
    path = data_dir / row.path
    return path.is_file() and path.stat().st_size == row.size and sha256_of(path) == row.sha256


def count_purged(session: Session, study_uid: str) -> int:
    """How many current images of a study retention has deleted."""
    query = select(func.count()).select_from(Instance)
    mine = (Instance.study_uid == study_uid, Instance.is_current, Instance.is_own_result.is_(False))
    return session.scalar(query.where(*mine, Instance.purged_at.is_not(None))) or 0


def delete_purged(database: Database, data_dir: Path, *names: str) -> None:
    """Delete files whose rows say that they were purged.

    A file that has come again in the meantime stays: receiving it locks its row too.
    """
    for name in names:
        with database.write() as session:
            row = session.scalar(select(Instance).where(Instance.path == name).with_for_update())
            if row is not None and row.purged_at is not None:
                (data_dir / name).unlink(missing_ok=True)


def current_instance(session: Session, sop_instance_uid: str) -> Instance | None:
    """The newest version of an instance; its file may have been purged."""
    query = select(Instance).where(Instance.sop_instance_uid == sop_instance_uid, Instance.is_current)
    return session.scalar(query)


def inputs_of(session: Session, study_uid: str) -> list[Instance]:
    """The newest version of every instance of a study, without our own results, in a fixed order."""
    query = select(Instance).where(
        Instance.study_uid == study_uid,
        Instance.is_current,
        Instance.is_own_result.is_(False),
        Instance.purged_at.is_(None),
    )
    return list(session.scalars(query.order_by(Instance.sop_instance_uid)))


def of_newest_patient(rows: Sequence[Instance], data_dir: Path) -> tuple[list[Instance], int]:
    """The instances of a study that belong to the patient of the newest one, and how many others there are.

    A study holds two patients after a correction for which only a part of the images was sent again.
    """
    if not rows:
        return [], 0
    patients = {row.id: read_patient_id(data_dir / row.path) for row in rows}
    newest = next((patients[key] for key in sorted(patients, reverse=True) if patients[key]), "")
    kept = [row for row in rows if not are_different({patients[row.id], newest})]
    return kept, len(rows) - len(kept)


def are_different(patient_ids: set[str]) -> bool:
    """Whether these Patient IDs belong to different patients; an empty one says nothing."""
    return len(patient_ids - {""}) > 1


def read_patient_id(path: Path) -> str:
    """The Patient ID of a stored file; empty if the file has none or cannot be read."""
    try:
        return patient_id(read_flat(path))
    except Exception:  # whatever is wrong with the file, reading its pixels will report it
        return ""


def patient_id(dataset: Dataset) -> str:
    """The Patient ID without padding; empty if there is none."""
    return str(dataset.get("PatientID") or "").strip(" \0")


def count_instances(session: Session) -> int:
    """The number of current instances that are on disk."""
    kept = (Instance.is_current, Instance.purged_at.is_(None))
    return session.scalar(select(func.count()).select_from(Instance).where(*kept)) or 0
