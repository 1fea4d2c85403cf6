"""`dicom-node export`: analysed series for training, de-identified, with the node's findings as a proposal for review.

Each patient gets a folder with a folder for each study, in the format that `trainer/datasets/node_reviews.py` reads
(docs/training.md). A study's folder appears complete or not at all, and one that exists is never touched: a person may
have reviewed it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.analysis import jobs
from dicom_node.analysis.patient import TwoPatientsError, judge
from dicom_node.analysis.release import share_of
from dicom_node.audit import message as audit_message
from dicom_node.audit.log import AuditLog
from dicom_node.audit.message import SOURCE
from dicom_node.audit.people import person
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, ResultRow
from dicom_node.database.words import JobState
from dicom_node.errors import NodeError
from dicom_node.images.patients import read_identity
from dicom_node.images.records import inputs_of, is_intact
from dicom_node.settings.node import NodeSettings
from dicom_node.system.files import make_folder, sync_folder
from dicom_node.upkeep.deidentify import KEY_BYTES, Pseudonyms, deidentify
from dicom_node.upkeep.traces import Identifier, IdentifyingError, check_bytes, identifiers_of
from spineone_core.findings import Status
from spineone_core.imaging.files import read_dataset

KEY_NAME = "export.key"
REVIEW = "review.json"
FORMAT, VERSION = "spineone-review", 1
# The verdict of a study that no person has seen yet: the trainer leaves it out until the verdict is changed.
PROPOSED = "proposed"


class ExportError(NodeError):
    """Nothing was exported; the message says why."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of a study: the folder it was written to, or why it was left out."""

    study_uid: str
    folder: str = ""
    files: int = 0
    left_out: str = ""


class Exporter:
    """Writes studies of a node to a folder.

    Parameters
    ----------
    settings, database
        The node's settings and database.
    out
        Where the folders go, which must be outside the data folder.
    key
        The site's secret for pseudonyms.

    Raises
    ------
    ExportError
        If ``out`` lies in the data folder.
    """

    def __init__(self, settings: NodeSettings, database: Database, out: Path, key: bytes) -> None:
        self._data_dir = settings.data_dir
        self._database = database
        self._out = out.resolve()
        if self._out.is_relative_to(settings.data_dir.resolve()):
            raise ExportError(f"{out} lies in the node's data folder; give another one")
        self._pseudonyms = Pseudonyms(key)
        self._audit = AuditLog(settings)

    def studies_since(self, moment: datetime) -> list[str]:
        """The studies with a result made at this moment or later, oldest first."""
        query = select(ResultRow.study_uid).where(ResultRow.created_at >= moment).order_by(ResultRow.id)
        with self._database.read() as session:
            return list(dict.fromkeys(session.scalars(query)))

    def export(self, study_uid: str) -> Exported:
        """Export the series that the newest result of a study is about."""
        try:
            findings, rows = self._analysed(study_uid)
            return self._write(study_uid, findings, rows)
        except (IdentifyingError, ExportError, TwoPatientsError) as error:
            return Exported(study_uid, left_out=str(error))

    def _analysed(self, study_uid: str) -> tuple[dict[str, Any], list[Instance]]:
        """The newest findings, and the images of their series."""
        with self._database.read() as session:
            result = _newest_result(session, study_uid)
            share = share_of(session, study_uid, inputs_of(session, study_uid), self._data_dir)
        if result is None:
            raise ExportError("it has no result")
        if result.status != Status.ANALYSED:
            raise ExportError(f"not analysable: {result.reason}")
        findings: dict[str, Any] = json.loads(result.findings)
        series_uids = findings.get("series_uids") or [findings["series_uid"]]
        rows = [row for row in share.rows if row.series_uid in series_uids]
        if not any(row.sop_instance_uid == findings["sop_instance_uid"] for row in rows):
            raise ExportError("its images are not on disk any more (retention)")
        if not all(is_intact(row, self._data_dir) for row in rows):
            raise ExportError("an image is missing or damaged on disk; see dicom-node verify")
        # Some of the images may have been corrected since the result was made.
        identities = {row.sop_instance_uid: read_identity(self._data_dir / row.path) for row in rows}
        judge(identities, identities, share.confirmed)
        return findings, rows

    def _write(self, study_uid: str, findings: dict[str, Any], rows: Sequence[Instance]) -> Exported:
        headers = [read_dataset(self._data_dir / row.path, pixels=False) for row in rows]
        patient = self._pseudonyms.patient(headers[0])
        target = self._out / patient / self._pseudonyms.uid(study_uid)
        if target.exists():
            raise ExportError(f"it is in {target} already")
        review = json.dumps(self._review(patient, findings), indent=1).encode()
        known: set[Identifier] = set().union(*(identifiers_of(header) for header in headers))
        check_bytes(known, review)
        make_folder(target.parent)
        with _scratch(self._out) as folder:
            for number, row in enumerate(rows, start=1):
                image = deidentify(self._data_dir / row.path, self._pseudonyms)
                check_bytes(known, image)
                (folder / f"image{number:04d}.dcm").write_bytes(image)
            (folder / REVIEW).write_bytes(review + b"\n")
            _make_durable(folder)
            folder.rename(target)
        sync_folder(target.parent)
        self._tell_audit(study_uid, rows)
        return Exported(study_uid, str(target), len(rows))

    def _review(self, patient: str, findings: dict[str, Any]) -> dict[str, Any]:
        """The findings as a proposal: every point is the model's, and an undecided class is left out."""
        pseudonym = self._pseudonyms.uid
        return {
            "format": FORMAT,
            "version": VERSION,
            "patient": patient,
            "study_uid": pseudonym(findings["study_uid"]),
            "series_uid": pseudonym(findings["series_uid"]),
            "series_uids": [pseudonym(uid) for uid in findings.get("series_uids") or [findings["series_uid"]]],
            "sop_instance_uid": pseudonym(findings["sop_instance_uid"]),
            "frame_number": findings.get("frame_number"),
            "model": findings["model"],
            "reviewer": None,
            "reviewed_at": None,
            "verdict": PROPOSED,
            "points": [_point(finding) for finding in findings["findings"]],
        }

    def _tell_audit(self, study_uid: str, rows: Sequence[Instance]) -> None:
        study = self._audit.study(self._database, study_uid, Counter(row.sop_class_uid for row in rows))
        who = replace(person(), role=SOURCE)
        exported = replace(study, is_anonymized=True)
        self._audit.record(audit_message.exported([who], self._out.as_uri(), [exported]))


def read_key(path: Path) -> bytes:
    """The site's key. If there is no file, a new key is written to it that only its owner can read.

    Raises
    ------
    ExportError
        If the file holds no key.
    """
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ExportError(f"{path} is no key of {KEY_BYTES} bytes in hexadecimal digits")
    return key


def _newest_result(session: Session, study_uid: str) -> ResultRow | None:
    """The result of the study's last finished job."""
    job = jobs.newest(session, study_uid, state=JobState.DONE)
    return None if job is None or job.result_id is None else session.get_one(ResultRow, job.result_id)


def _point(finding: dict[str, Any]) -> dict[str, Any]:
    return {
        "structure": finding["structure"],
        "level": finding["level"],
        "x": finding["x"],
        "y": finding["y"],
        "class": finding["class"] if finding["decided"] else None,
        "source": "model",
    }


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A folder on the target's file system; it is removed at the end unless it was renamed."""
    path = Path(tempfile.mkdtemp(prefix=".export-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _make_durable(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
