"""Stored results, as a worker leaves them."""

from __future__ import annotations

import hashlib
from io import BytesIO

from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.database.connection import Database
from dicom_node.database.tables import ResultFile, ResultRow, StudyRow
from dicom_node.database.words import SENT_ROLES
from dicom_node.delivery import outbox
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.system.files import write_atomically
from tests.fakes.datasets import mr_image, with_meta
from tests.fakes.pacs import SC, SR


def add_result(
    database: Database,
    settings: NodeSettings,
    study: str,
    destinations: list[str],
    objects: tuple[tuple[str, str], ...] = (("report", SR), ("overlay", SC)),
) -> list[Dataset]:
    datasets = []
    now = utc_now()
    with database.write() as session:
        session.add(
            StudyRow(study_uid=study, state="complete", generation=1, first_received_at=now, last_received_at=now)
        )
        session.flush()
        row = ResultRow(
            study_uid=study, generation=1, input_hash="a", model_digest="b", settings_digest="c", status="analysed",
            findings="{}", created_at=now,
        )  # fmt: skip
        session.add(row)
        session.flush()
        for number, (role, sop_class) in enumerate(objects, start=1):
            dataset = mr_image(number, study=study)
            dataset.SOPClassUID = sop_class
            with_meta(dataset)
            datasets.append(dataset)
            buffer = BytesIO()
            dataset.save_as(buffer, enforce_file_format=True)
            name = f"results/{study}/{role}.dcm"
            write_atomically(settings.data_dir / name, buffer.getvalue())
            session.add(
                ResultFile(
                    result_id=row.id, role=role, path=name, sha256=hashlib.sha256(buffer.getvalue()).hexdigest(),
                    sop_class_uid=sop_class, sop_instance_uid=str(dataset.SOPInstanceUID),
                )
            )  # fmt: skip
        session.flush()
        mine = select(ResultFile).where(ResultFile.result_id == row.id)
        files = session.scalars(mine.order_by(ResultFile.role.desc())).all()
        outbox.enqueue(session, files, study, dict.fromkeys(destinations, SENT_ROLES))
    return datasets
