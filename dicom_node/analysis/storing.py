"""Storing a result: its files, then its rows, parcels and the end of its job in one transaction."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from dicom_node.alerts.record import close_alert
from dicom_node.analysis import jobs
from dicom_node.analysis.analyse import Analysis, Reading
from dicom_node.analysis.earlier_results import input_hash, recognise
from dicom_node.analysis.explanation import explanation_of
from dicom_node.analysis.jobs import Claim
from dicom_node.analysis.products import Origin, Product
from dicom_node.database.connection import Database
from dicom_node.database.tables import ResultFile, ResultRow
from dicom_node.database.words import SENT_ROLES, AlertKind, Cause
from dicom_node.delivery import outbox
from dicom_node.dicom.identifiers import ResultKey
from dicom_node.errors import NodeError
from dicom_node.results.kinds import REPORT, REPORTS
from dicom_node.results.sr_document import Predecessor
from dicom_node.settings.node import NodeSettings
from dicom_node.system.files import safe_path, write_atomically
from spineone_core.findings import Detection
from spineone_core.imaging.files import read_dataset


class DamagedResultError(NodeError):
    """A file that an earlier attempt at the job wrote is damaged. Delete it from `results/`, then retry the job."""


def known_result(session: Session, key: ResultKey, generation: int) -> ResultRow | None:
    """The stored result of a key; None if there is none that still holds.

    A result that was replaced by a later one holds for its own generation of the study only: if the study is today what it was
    then, because a correction was taken back, the PACS has the later result as the last one. It gets a new one.
    """
    newest = select(func.max(ResultRow.id)).where(ResultRow.study_uid == key.study_uid).scalar_subquery()
    return session.scalar(
        select(ResultRow)
        .where(
            ResultRow.study_uid == key.study_uid,
            ResultRow.input_hash == input_hash(key),
            ResultRow.model_digest == key.model_digest,
            ResultRow.settings_digest == key.settings_digest,
            or_(ResultRow.id == newest, ResultRow.generation == generation),
        )
        .order_by(ResultRow.id.desc())
        .limit(1)
    )


def replaced_reports(database: Database, data_dir: Path, study_uid: str) -> dict[str, Predecessor]:
    """By role, the study's last reports that were meant to be sent: those of its next result replace them."""
    roles = [kind.role for kind in REPORTS]
    with database.read() as session:
        reports = (
            select(ResultFile)
            .join(ResultRow, ResultRow.id == ResultFile.result_id)
            .where(ResultRow.study_uid == study_uid, ResultFile.role.in_(roles), ~ResultRow.is_withheld)
            .order_by(ResultRow.id.desc())
        )
        files = session.scalars(reports).all()
    last = {file.role: file for file in files if file.result_id == files[0].result_id}
    found = {role: _predecessor(file, data_dir) for role, file in last.items()}
    # Before there were two forms, the first form went everywhere.
    return {role: found.get(role) or found[REPORT.role] for role in roles} if REPORT.role in found else {}


def _predecessor(file: ResultFile, data_dir: Path) -> Predecessor:
    series_uid = str(read_dataset(data_dir / file.path, pixels=False).SeriesInstanceUID)
    return Predecessor(str(file.sop_class_uid), str(file.sop_instance_uid), series_uid)


def end_with_known(session: Session, claim: Claim, reading: Reading) -> bool:
    """End the job with the stored result of the same; False if there is none.

    Raises
    ------
    LeaseLostError
        If the job was given to another worker.
    """
    recognise(session, reading)
    result = known_result(session, reading.key, claim.generation)
    if result is None:
        return False
    _end(session, claim, result, reading, Cause.UNCHANGED)
    return True


def write_files(analysis: Analysis, folder: Path) -> Analysis:
    """Write the files of a result; what an earlier attempt has written is kept and used instead.

    Raises
    ------
    DamagedResultError
        If a file that is there already is another object.
    """
    products = tuple(_write(product, safe_path(folder, product.name)) for product in analysis.products)
    return replace(analysis, products=products)


def _write(product: Product, path: Path) -> Product:
    if not path.exists():
        write_atomically(path, product.data)
        return product
    kept = path.read_bytes()
    if kept != product.data and product.sop_instance_uid and product.sop_instance_uid != _uid_in(path):
        raise DamagedResultError(f"results/{path.parent.parent.name}/{path.parent.name}/{path.name} is another object")
    return replace(product, data=kept)


def _uid_in(path: Path) -> str:
    try:
        return str(read_dataset(path, pixels=False).SOPInstanceUID)
    except ValueError:
        return ""


def store_result(
    session: Session,
    claim: Claim,
    reading: Reading,
    analysis: Analysis,
    folder: Path,
    settings: NodeSettings,
    origin: Origin,
) -> None:
    """Store the result, its outbox rows and the end of the job.

    Parameters
    ----------
    folder
        The folder with the files of the result.
    origin
        As the findings have it.

    Raises
    ------
    LeaseLostError
        If the job was given to another worker.
    """
    result = _add_result(session, claim, analysis, folder, settings, origin)
    _end(session, claim, result, reading, origin.cause)


def _end(session: Session, claim: Claim, result: ResultRow, reading: Reading, cause: Cause) -> None:
    detail = "; ".join([_summary(reading.detection), *reading.notes])
    if reading.selection is not None:
        jobs.note_selection(session, claim, json.dumps(explanation_of(reading.selection)))
    jobs.succeed(session, claim, result_id=result.id, input_hash=input_hash(reading.key), detail=detail, cause=cause)
    close_alert(session, AlertKind.TWO_PATIENTS, claim.study_uid)


def _add_result(
    session: Session, claim: Claim, analysis: Analysis, folder: Path, settings: NodeSettings, origin: Origin
) -> ResultRow:
    detection = analysis.detection
    result = ResultRow(
        study_uid=claim.study_uid,
        generation=claim.generation,
        input_hash=input_hash(analysis.key),
        model_digest=analysis.key.model_digest,
        settings_digest=analysis.key.settings_digest,
        status=detection.status.value,
        reason=detection.reason.value if detection.reason else None,
        findings=origin.findings(detection),
        created_at=claim.created_at,
    )
    session.add(result)
    session.flush()
    path = folder.relative_to(settings.data_dir)
    files = [_file_row(result.id, product, path) for product in analysis.products]
    session.add_all(files)
    session.flush()
    is_sent = settings.results.are_sent(result.reason)
    wanted = {d.name: [role for role in SENT_ROLES if d.takes(role)] for d in settings.destinations} if is_sent else {}
    number = outbox.enqueue(session, files, claim.study_uid, wanted)
    is_sendable = any(file.sop_class_uid for file in files)
    result.is_withheld = is_sendable and not number and bool(settings.destinations or not is_sent)
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


def _summary(detection: Detection) -> str:
    if detection.reason is not None:
        return f"not analysable: {detection.reason.value}: {detection.reason_detail}"
    return "analysed"
