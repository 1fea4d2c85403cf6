"""What the index says about received images, and whether their files still are what was received."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, StudyRow
from dicom_node.system.files import sha256_of


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


def count_instances(session: Session) -> int:
    """The number of current instances that are on disk.

    It is taken from the counts of the studies: counting the rows of a million instances takes a second.
    """
    on_disk, number = Instance.purged_at.is_(None), select(func.count()).select_from(Instance)
    has_study = exists().where(StudyRow.study_uid == Instance.study_uid)
    in_studies = session.scalar(select(func.sum(StudyRow.files))) or 0
    alone = session.scalar(number.where(Instance.is_own_result, on_disk, ~has_study)) or 0
    replaced = session.scalar(number.where(~Instance.is_current, on_disk)) or 0
    return int(in_studies) + alone - replaced
