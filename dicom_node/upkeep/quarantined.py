"""What is in quarantine, and its two ways out: taken in like any image, or deleted. Both only by a person's command."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom.uid import UID
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert
from dicom_node.database.words import AlertKind
from dicom_node.dicom.headers import HeaderError, is_valid_uid, read_header
from dicom_node.errors import NodeError
from dicom_node.images.incoming import OUT_OF_RESOURCES, SUCCESS, Incoming, RefusedError, incoming_from_file
from dicom_node.images.quarantine import Note, Quarantine, kept_at
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.system.files import sha256_of

# How the alert of a file ends; files that an earlier release put aside have no other note.
_KEPT_AS = re.compile(r"; kept as quarantine/[0-9A-Za-z.]+(?:, from (.*))?$")
_SHOWN = ("Modality", "SeriesNumber", "InstanceNumber", "Rows", "Columns", "NumberOfFrames")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class _Intake(InstanceStore):
    """Intake with all its checks, except that what it would put aside is refused, since it lies there already."""

    def take(self, incoming: Incoming) -> None:
        """Keep an image, or say why not.

        Raises
        ------
        RefusedError
            If a check of intake fails.
        """
        status = self._receive(incoming, lambda study_uid: None)
        if status != SUCCESS:
            raise RefusedError(status, "it was not taken")

    def _quarantine(self, meta: bytes, incoming: Incoming, sha256: str, why: str) -> None:
        raise RefusedError(OUT_OF_RESOURCES, why)


def listing(session: Session, quarantine: Quarantine) -> list[dict[str, Any]]:
    """Every file in quarantine with its reason, as plain JSON values; the oldest first."""
    return [_entry(session, quarantine, path) for path in quarantine.files()]


def detail(session: Session, quarantine: Quarantine, path: Path) -> dict[str, Any]:
    """All that can be said of one file without patient data and without free text of its header."""
    return {**_entry(session, quarantine, path), "path": str(path), "sha256": sha256_of(path), **_header(path)}


def release(settings: NodeSettings, database: Database, path: Path) -> str:
    """Take a file in as if its sender had sent it again; returns its SOP Instance UID.

    Every check of intake is made again. What fails one stays in quarantine: a conflict of pixels, study or class is
    settled in the archive, never here. Whose image it is, is judged with its study, like any image's.

    Raises
    ------
    NodeError
        If a check fails; it says which.
    """
    with database.read() as session:
        note = _note(session, Quarantine(settings.data_dir), path)
    incoming = _read(path)
    if incoming is None:
        raise NodeError(f"{path.name} stays in quarantine: it is no whole DICOM file")
    try:
        _Intake.of(settings, database).take(replace(incoming, calling_ae=note.calling_ae or "(released)"))
    except RefusedError as refusal:
        raise NodeError(f"{path.name} stays in quarantine: {refusal.why}") from None
    remove(settings, database, path)
    return incoming.sop_instance_uid


def remove(settings: NodeSettings, database: Database, path: Path) -> None:
    """Delete a file for good, and close the alert that names it."""
    Quarantine(settings.data_dir).remove(path)
    with database.write() as session:
        for alert in session.scalars(_alerts_of(path).where(Alert.closed_at.is_(None))):
            alert.closed_at = utc_now()


def _alerts_of(path: Path) -> Any:
    mine = Alert.detail.contains(f"kept as quarantine/{path.name}", autoescape=True)
    return select(Alert).where(Alert.kind == str(AlertKind.QUARANTINE), mine).order_by(Alert.last_at.desc())


def _note(session: Session, quarantine: Quarantine, path: Path) -> Note:
    """The note of a file, or what the newest alert about it says."""
    note = quarantine.note_of(path)
    if note is not None:
        return note
    alert = session.scalar(_alerts_of(path).limit(1))
    ending = _KEPT_AS.search(alert.detail) if alert is not None else None
    if alert is None or ending is None:
        return Note("not recorded")
    return Note(alert.detail[: ending.start()], ending[1] or "", alert.last_at.isoformat(timespec="seconds"))


def _entry(session: Session, quarantine: Quarantine, path: Path) -> dict[str, Any]:
    note = _note(session, quarantine, path)
    return {
        "file": path.name,
        "kept_at": kept_at(path, note).isoformat(timespec="seconds"),
        "from": note.calling_ae,
        "size": path.stat().st_size,
        "reason": note.why,
    }


def _read(path: Path) -> Incoming | None:
    try:
        return incoming_from_file(path)
    except Exception:  # hostile bytes fail in many ways inside the parser
        return None


def _header(path: Path) -> dict[str, Any]:
    """What the object is; nothing where it cannot be read."""
    incoming = _read(path)
    if incoming is None:
        return {"header": "cannot be read"}
    try:
        dataset = read_header(incoming.data, incoming.transfer_syntax_uid).dataset
    except HeaderError as error:
        return {"header": str(error)}
    uids = {key: str(dataset.get(key) or "") for key in _UIDS}
    return {
        "sop_class": _name(incoming.sop_class_uid),
        "transfer_syntax": _name(incoming.transfer_syntax_uid),
        **{key: value if is_valid_uid(value) else "missing or malformed" for key, value in uids.items()},
        **{key: str(dataset.get(key)) for key in _SHOWN if _is_number(dataset.get(key))},
    }


def _name(uid: str) -> str:
    return UID(uid).name if is_valid_uid(uid) else "malformed"


def _is_number(value: object) -> bool:
    """Whether a value is digits alone, or a code of at most four capitals: a name or a text is not shown."""
    return re.fullmatch(r"\d{1,8}|[A-Z]{2,4}", str(value)) is not None
