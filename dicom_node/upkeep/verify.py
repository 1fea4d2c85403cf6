"""Checking whether the stored files still are what was stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select

from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, ResultFile
from dicom_node.system.files import sha256_of


def verify_files(database: Database, data_dir: Path) -> Iterator[tuple[str, str, str]]:
    """Check every received file and every file of a result against its SHA-256.

    Yields the UID or role, the path and what is wrong, for each file that fails.
    """
    with database.read() as session:
        kept = select(Instance.sop_instance_uid, Instance.path, Instance.sha256).where(Instance.purged_at.is_(None))
        received = session.execute(kept).all()
        made = session.execute(select(ResultFile.role, ResultFile.path, ResultFile.sha256)).all()
    for subject, name, sha256 in [*received, *made]:
        path = data_dir / name
        if not path.is_file():
            yield subject, name, "is missing"
        elif sha256_of(path) != sha256:
            yield subject, name, "has other bytes than the index says"
