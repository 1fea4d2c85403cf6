"""Storing a result: its rows, its parcels and the end of its job in one transaction; and the reports it replaces."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.analysis import jobs
from dicom_node.analysis.analyse import Analysis
from dicom_node.analysis.jobs import Claim
from dicom_node.analysis.products import Product
from dicom_node.database.connection import Database
from dicom_node.database.tables import ResultFile, ResultRow
from dicom_node.delivery import outbox
from dicom_node.dicom.identifiers import ResultKey
from dicom_node.results.kinds import REPORT, REPORTS
from dicom_node.results.sr_document import Predecessor
from dicom_node.settings.node import NodeSettings
from spineone_core.findings import Detection
from spineone_core.imaging.files import read_dataset


def known_result(session: Session, key: ResultKey) -> ResultRow | None:
    """The stored result of a key; None if there is none."""
    return session.scalar(
        select(ResultRow).where(
            ResultRow.study_uid == key.study_uid,
            ResultRow.input_hash == _input_hash(key),
            ResultRow.model_digest == key.model_digest,
            ResultRow.settings_digest == key.settings_digest,
        )
    )


def replaced_reports(database: Database, data_dir: Path, key: ResultKey) -> dict[str, Predecessor]:
    """By role, the study's last reports before the result of this key, whether or not that result is stored already."""
    roles = [kind.role for kind in REPORTS]
    with database.read() as session:
        known = known_result(session, key)
        reports = (
            select(ResultFile)
            .join(ResultRow, ResultRow.id == ResultFile.result_id)
            .where(ResultRow.study_uid == key.study_uid, ResultFile.role.in_(roles))
            .order_by(ResultRow.id.desc())
        )
        if known is not None:
            reports = reports.where(ResultRow.id < known.id)
        files = session.scalars(reports).all()
    last = {file.role: file for file in files if file.result_id == files[0].result_id}
    found = {role: _predecessor(file, data_dir) for role, file in last.items()}
    # Before there were two forms, the first form went everywhere.
    return {role: found.get(role) or found[REPORT.role] for role in roles} if REPORT.role in found else {}


def _predecessor(file: ResultFile, data_dir: Path) -> Predecessor:
    series_uid = str(read_dataset(data_dir / file.path, pixels=False).SeriesInstanceUID)
    return Predecessor(str(file.sop_class_uid), str(file.sop_instance_uid), series_uid)


def store_result(session: Session, claim: Claim, analysis: Analysis, folder: Path, settings: NodeSettings) -> None:
    """Store the result, its outbox rows and the end of the job.

    A result that is stored already stays as it is, and the job ends with it.

    Parameters
    ----------
    folder
        The folder with the files of the result.

    Raises
    ------
    LeaseLostError
        If the job was given to another worker.
    """
    result = known_result(session, analysis.key) or _add_result(session, claim, analysis, folder, settings)
    digest, detail = _input_hash(analysis.key), _summary(analysis.detection)
    jobs.succeed(session, claim, result_id=result.id, input_hash=digest, detail=detail)


def _add_result(session: Session, claim: Claim, analysis: Analysis, folder: Path, settings: NodeSettings) -> ResultRow:
    detection = analysis.detection
    result = ResultRow(
        study_uid=claim.study_uid,
        generation=claim.generation,
        input_hash=_input_hash(analysis.key),
        model_digest=analysis.key.model_digest,
        settings_digest=analysis.key.settings_digest,
        status=detection.status.value,
        reason=detection.reason.value if detection.reason else None,
        findings=detection.dumps(),
        created_at=claim.created_at,
    )
    session.add(result)
    session.flush()
    path = folder.relative_to(settings.data_dir)
    files = [_file_row(result.id, product, path) for product in analysis.products]
    session.add_all(files)
    session.flush()
    outbox.enqueue(session, files, claim.study_uid, [d.name for d in settings.destinations])
    return result


def _file_row(result_id: int, product: Product, folder: Path) -> ResultFile:
    return ResultFile(
        result_id=result_id,
        role=product.role,
        path=str(folder / product.name),
        sha256=hashlib.sha256(product.data).hexdigest(),
        sop_class_uid=product.sop_class_uid or None,
        sop_instance_uid=product.sop_instance_uid or None,
    )


def _input_hash(key: ResultKey) -> str:
    return hashlib.sha256(json.dumps(key.inputs).encode()).hexdigest()


def _summary(detection: Detection) -> str:
    if detection.reason is not None:
        return f"not analysable: {detection.reason.value}: {detection.reason_detail}"
    return "analysed"
