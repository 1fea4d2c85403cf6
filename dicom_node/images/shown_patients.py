"""Patient ID and Accession Number of studies for the screen, kept only where the settings ask for it (`[shown] patient`)."""

from __future__ import annotations

from collections.abc import Collection

from pydicom.dataset import Dataset
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dicom_node.database.connection import Database
from dicom_node.database.tables import ShownPatient
from dicom_node.images.patients import PatientIdentity
from dicom_node.system.log import printable

# As wide as the columns; the standard allows 64 (LO) and 16 (SH).
_LONGEST = 64


def note(session: Session, study_uid: str, header: Dataset) -> None:
    """Keep what the newest image of a study says."""
    try:
        accession = str(header.get("AccessionNumber") or "").strip(" \0")
    except Exception:  # pydicom raises many types on hostile values; such a value says nothing
        accession = ""
    said = (printable(PatientIdentity.of(header).patient_id)[:_LONGEST], printable(accession)[:_LONGEST])
    row = session.get(ShownPatient, study_uid)
    if row is None:
        session.add(ShownPatient(study_uid=study_uid, patient_id=said[0], accession=said[1]))
    elif (row.patient_id, row.accession) != said:
        row.patient_id, row.accession = said


def of_studies(session: Session, study_uids: Collection[str]) -> dict[str, ShownPatient]:
    """What is kept of these studies, by Study Instance UID."""
    query = select(ShownPatient).where(ShownPatient.study_uid.in_(study_uids))
    return {row.study_uid: row for row in session.scalars(query)}


def forget_all(database: Database) -> int:
    """Delete everything that was kept, in the database file and its log too; returns the number of studies."""
    with database.write() as session:
        if database.engine.dialect.name == "sqlite":
            # Else the bytes would stay in pages that are free.
            session.connection().exec_driver_sql("PRAGMA secure_delete=ON")
        gone = len(session.scalars(delete(ShownPatient).returning(ShownPatient.study_uid)).all())
    if gone:
        database.checkpoint()
    return gone
