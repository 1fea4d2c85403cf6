"""Received instances: a file in place and durable, an index row committed, and only then success.

Every file is named after its content, so writing it twice is harmless and no version replaces another:
``instances/<study>/<series>/<SOP instance>-<first 16 digits of the SHA-256>.dcm`` below the data folder.
"""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from dicom_node.alerts.record import close_alert, raise_alert
from dicom_node.database.tables import Database, Instance, ResultFile, StudyRow, utc_now
from dicom_node.dicom.headers import PIXEL_KEYWORDS, HeaderError, InstanceHeader, is_valid_uid, read_header
from dicom_node.dicom.identifiers import IMPLEMENTATION_CLASS_UID, is_own_result
from dicom_node.images import studies
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.node import Study as StudySettings
from dicom_node.system.files import move_into_place, safe_path, sha256_of, sync_folder, write_spool_file
from dicom_node.system.log import describe, get_logger, printable

# C-STORE statuses (PS3.4 B.2.3).
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

FOLDERS = ("instances", "spool", "quarantine", "results")
_COMPARE_TIMEOUT_S = 120
_MOST_PATIENTS_KNOWN = 10_000


class RefusedError(Exception):
    """An instance cannot be accepted: the status to answer, and why (without values of the data set)."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One C-STORE request. ``data`` is the encoded data set without file meta."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data: bytes
    calling_ae: str
    calling_address: str

    @staticmethod
    def of(event: Any, *, calling_ae: str, calling_address: str) -> Incoming:
        """The request of pynetdicom's C-STORE event."""
        request = event.request
        return Incoming(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            data=request.DataSet.getvalue(),
            calling_ae=calling_ae,
            calling_address=calling_address,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """The UIDs an instance is filed under."""

    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    # Never stored and never logged.
    patient_id: str
    is_own_result: bool


class InstanceStore:
    """Files and index rows of the received instances.

    Parameters
    ----------
    database
        Where the index is.
    data_dir
        The node's data folder; its subfolders are created.
    reserve_bytes
        Free space that must remain.
    study
        How large a study may become.
    """

    def __init__(
        self, database: Database, data_dir: Path, *, reserve_bytes: int = 0, study: StudySettings | None = None
    ) -> None:
        self._database = database
        self.data_dir = data_dir
        self._reserve = reserve_bytes
        self._study = study or StudySettings()
        # Patient IDs by index row, so that not every image of a study makes us read another one.
        self._patients: dict[int, str] = {}
        self._patients_lock = threading.Lock()
        prepare_folders(data_dir)

    @staticmethod
    def of(settings: NodeSettings, database: Database) -> InstanceStore:
        """The store of a node."""
        reserve = int(settings.retention.disk_reserve_gb * 1_000_000_000)
        return InstanceStore(database, settings.data_dir, reserve_bytes=reserve, study=settings.study)

    def has_room(self, size: int = 0) -> bool:
        """Whether ``size`` more bytes leave the reserve untouched."""
        return shutil.disk_usage(self.data_dir).free - size >= self._reserve

    def receive(self, incoming: Incoming, *, filed: Callable[[str], None] = lambda study_uid: None) -> int:
        """Keep one instance; the C-STORE status to answer. ``filed`` is told its Study Instance UID once that is known.

        Success is returned only after the file is durable and its index row is committed. Whatever cannot be accepted
        is answered with a failure; what a sender would not send again is kept in quarantine, with an alert.
        """
        try:
            return self._receive(incoming, filed)
        except RefusedError as refusal:
            self._log("refused", incoming, status=f"0x{refusal.status:04X}", why=refusal.why)
            return refusal.status
        except (OSError, SQLAlchemyError):
            get_logger().exception("store_failed", sop_instance_uid=printable(incoming.sop_instance_uid))
            return OUT_OF_RESOURCES

    def refuse_too_large(self, sop_instance_uid: object, calling_ae: str) -> int:
        """An object is over a limit and was not held; the status to answer."""
        uid = printable(sop_instance_uid)
        get_logger().warning("instance_refused", sop_instance_uid=uid, calling_ae=calling_ae, why="too large")
        detail = f"{uid}: over max_object_mb of [listener], or max_memory_mb with all that came at the same time"
        try:
            self._alert("refused", f"{calling_ae}: an object is too large", detail)
        except SQLAlchemyError:  # the log has it
            get_logger().exception("alert_failed")
        return OUT_OF_RESOURCES

    def _receive(self, incoming: Incoming, filed: Callable[[str], None]) -> int:
        if not self.has_room(len(incoming.data)):
            self._alert("disk_reserve", str(self.data_dir), "free space is under the reserve: images are refused")
            raise RefusedError(OUT_OF_RESOURCES, "disk reserve")
        meta = encode_file_meta(incoming)
        digest = hashlib.sha256(meta)
        digest.update(incoming.data)
        sha256 = digest.hexdigest()
        try:
            header = read_header(incoming.data, incoming.transfer_syntax_uid)
            identity = _identify(header, incoming)
        except HeaderError as error:
            self._quarantine(meta, incoming, sha256, f"data set {error}")
            raise RefusedError(CANNOT_UNDERSTAND, str(error)) from None
        except RefusedError as refusal:
            self._quarantine(meta, incoming, sha256, refusal.why)
            raise
        filed(identity.study_uid)
        return self._keep(meta, incoming, header, identity, sha256)

    def _keep(self, meta: bytes, incoming: Incoming, header: InstanceHeader, identity: _Identity, sha256: str) -> int:
        for _ in range(5):
            known = self._known_versions(identity.sop_instance_uid)
            if any(row.sha256 == sha256 and self._is_in_place(row) for row in known):
                self._log("duplicate", incoming)
                return SUCCESS
            current = next((row for row in known if row.is_current), None)
            if any(row.sha256 == sha256 for row in known):
                # Its file was lost, damaged or purged: the very same bytes are welcome.
                conflict = ""
            elif current is not None:
                conflict = self._conflict(current, header, identity, meta, incoming)
            else:
                conflict = self._other_patient(identity)
            if conflict:
                self._quarantine(meta, incoming, sha256, conflict)
                return SUCCESS
            if not any(row.sha256 == sha256 for row in known):
                self._check_study_limits(identity, incoming)
            target = instance_path(self.data_dir, identity, sha256)
            move_into_place(write_spool_file(self.data_dir / "spool", (meta, incoming.data)), target)
            if self._index(incoming, identity, sha256, target, expected=current):
                return SUCCESS
        raise RefusedError(OUT_OF_RESOURCES, "the same instance is being received several times at once")

    def _check_study_limits(self, identity: _Identity, incoming: Incoming) -> None:
        """
        Raises
        ------
        RefusedError
            0xA700 if the study has become too large. Associations that store at the same time may pass the limit by one each.
        """
        with self._database.read() as session:
            study = session.get(StudyRow, identity.study_uid)
        if study is None or identity.is_own_result:
            return
        rules, size = self._study, (study.stored_bytes + len(incoming.data)) / 1e9
        if study.stored_images < rules.max_images and size <= rules.max_gb:
            return
        has = f"it has {study.stored_images} images, {study.stored_bytes / 1e6:.0f} MB together"
        limits = f"study.max_images is {rules.max_images}, study.max_gb {rules.max_gb:g}"
        self._alert("study_limit", identity.study_uid, f"{has}; {limits}; more came from {incoming.calling_ae}")
        raise RefusedError(OUT_OF_RESOURCES, "the study is larger than the settings allow")

    def _known_versions(self, sop_instance_uid: str) -> list[Instance]:
        with self._database.read() as session:
            return list(session.scalars(select(Instance).where(Instance.sop_instance_uid == sop_instance_uid)))

    def _is_in_place(self, row: Instance) -> bool:
        return row.purged_at is None and is_intact(row, self.data_dir)

    def _conflict(
        self, current: Instance, header: InstanceHeader, identity: _Identity, meta: bytes, incoming: Incoming
    ) -> str:
        """Why a second version of an instance cannot replace the first; empty if it can."""
        if current.study_uid != identity.study_uid or current.sop_class_uid != identity.sop_class_uid:
            return "the same SOP Instance UID was received in another study or class"
        if not self._same_pixels(current, header, meta, incoming):
            return "the same SOP Instance UID was received with other pixels"
        return ""

    def _other_patient(self, identity: _Identity) -> str:
        """Why a new instance cannot join its study; empty if it can.

        A study belongs to the patient of its newest image: a corrected resend of an image changes it, an image that
        nobody has sent before does not.
        """
        if identity.is_own_result:
            return ""
        with self._database.read() as session:
            newest = session.scalar(
                select(Instance)
                .where(Instance.study_uid == identity.study_uid, Instance.is_current, Instance.is_own_result.is_(False))
                .order_by(Instance.id.desc())
                .limit(1)
            )
        if newest is None or not are_different({identity.patient_id, self._patient_of(newest)}):
            return ""
        return "the study has images of another Patient ID; images of two patients are never merged"

    def _patient_of(self, row: Instance) -> str:
        with self._patients_lock:
            known = self._patients.get(row.id)
        if known is None:
            known = read_patient_id(self.data_dir / row.path)
            with self._patients_lock:
                if len(self._patients) >= _MOST_PATIENTS_KNOWN:
                    self._patients.clear()
                self._patients[row.id] = known
        return known

    def _same_pixels(self, current: Instance, header: InstanceHeader, meta: bytes, incoming: Incoming) -> bool:
        stored_path = self.data_dir / current.path
        try:
            if not is_intact(current, self.data_dir):
                raise HeaderError("damaged")
            stored = read_header(_data_set_bytes(stored_path), current.transfer_syntax_uid)
        except (OSError, HeaderError):
            # The stored file is lost or damaged (there is an alert for it): the new one is the better one.
            return True
        if not stored.pixel_bytes and not header.pixel_bytes:
            return True
        same_syntax = current.transfer_syntax_uid == incoming.transfer_syntax_uid
        if same_syntax and stored.pixel_bytes == header.pixel_bytes and _pixel_module(stored) == _pixel_module(header):
            return True
        spooled = write_spool_file(self.data_dir / "spool", (meta, incoming.data))
        try:
            return _decode_to_same(stored_path, spooled)
        finally:
            spooled.unlink(missing_ok=True)

    def _index(
        self, incoming: Incoming, identity: _Identity, sha256: str, target: Path, expected: Instance | None
    ) -> bool:
        """Commit the index row; False if another association was first and the rules must be looked at again."""
        try:
            return self._index_row(incoming, identity, sha256, target, expected)
        except IntegrityError:
            return False

    def _index_row(
        self, incoming: Incoming, identity: _Identity, sha256: str, target: Path, expected: Instance | None
    ) -> bool:
        now = utc_now()
        with self._database.write() as session:
            uid = identity.sop_instance_uid
            rows = list(session.scalars(select(Instance).where(Instance.sop_instance_uid == uid).with_for_update()))
            current = next((row for row in rows if row.is_current), None)
            if (current.id if current else None) != (expected.id if expected else None):
                return False
            again = next((row for row in rows if row.sha256 == sha256), None)
            if again is not None:
                return self._whole_again(session, again, target)
            if current is not None:
                current.is_current = False
                session.flush()
            session.add(
                Instance(
                    sop_instance_uid=uid,
                    version=len(rows) + 1,
                    is_current=True,
                    study_uid=identity.study_uid,
                    series_uid=identity.series_uid,
                    sop_class_uid=identity.sop_class_uid,
                    transfer_syntax_uid=incoming.transfer_syntax_uid,
                    sha256=sha256,
                    path=str(target.relative_to(self.data_dir)),
                    size=target.stat().st_size,
                    received_at=now,
                    calling_ae=incoming.calling_ae[:16],
                    calling_address=incoming.calling_address[:64],
                    is_own_result=identity.is_own_result,
                )
            )
            if not identity.is_own_result:
                study = studies.image_arrived(session, identity.study_uid, now)
                study.stored_images += 1
                study.stored_bytes += target.stat().st_size
        return True

    def _whole_again(self, session: Session, row: Instance, target: Path) -> bool:
        """The index had it, the disk had lost it, or retention has deleted it: its study is complete anew."""
        if not target.is_file():
            # Retention has deleted the new file with the old one: once more.
            return False
        close_alert(session, "missing_file", row.sop_instance_uid)
        row.purged_at = None
        if row.is_current and not row.is_own_result:
            studies.image_arrived(session, row.study_uid, utc_now())
        return True

    def _quarantine(self, meta: bytes, incoming: Incoming, sha256: str, why: str) -> None:
        target = safe_path(self.data_dir / "quarantine", f"{sha256[:32]}.dcm")
        move_into_place(write_spool_file(self.data_dir / "spool", (meta, incoming.data)), target)
        subject = incoming.sop_instance_uid if is_valid_uid(incoming.sop_instance_uid) else sha256[:32]
        self._alert("quarantine", subject, f"{why}; kept as quarantine/{target.name}, from {incoming.calling_ae}")

    def _alert(self, kind: str, subject: str, detail: str) -> None:
        with self._database.write() as session:
            raise_alert(session, kind, subject, detail)

    def _log(self, event: str, incoming: Incoming, **fields: str) -> None:
        uid = printable(incoming.sop_instance_uid)
        get_logger().info(
            f"instance_{event}", sop_instance_uid=uid, calling_ae=printable(incoming.calling_ae), **fields
        )

    # ------------------------------------------------------------ start-up

    def reconcile(self) -> None:
        """Bring disk and index together after a crash: sweep the spool, index files without row, report lost files.

        A file without a row was never acknowledged; it is whole (it was synced before its rename), so it is indexed.
        Only one process may do this at a time.
        """
        for path in (self.data_dir / "spool").glob("*.tmp"):
            path.unlink(missing_ok=True)
        with _no_garbage():
            on_disk = _files_below(self.data_dir, "instances")
            kept, purged = self._indexed()
        if on_disk == kept:
            return
        # Whole sets at once: a loop over a hundred thousand rows would delay every start.
        for name in sorted(on_disk.keys() - kept.keys() - purged):
            self._adopt(self.data_dir / name)
        delete_purged(self._database, self.data_dir, *sorted(on_disk.keys() & purged))
        for name, _ in sorted(kept.items() - on_disk.items()):
            self._alert_missing(name, "has another size than the index says" if name in on_disk else "is not on disk")

    def _indexed(self) -> tuple[dict[str, int], set[str]]:
        """Names and sizes of the files that must be there, and names of those that were purged."""
        with self._database.read() as session:
            kept = session.execute(select(Instance.path, Instance.size).where(Instance.purged_at.is_(None)))
            purged = session.scalars(select(Instance.path).where(Instance.purged_at.is_not(None)))
            return {path: size for path, size in kept}, set(purged)  # noqa: C416 (dict() takes no rows)

    def _alert_missing(self, name: str, what: str) -> None:
        with self._database.write() as session:
            uid = session.scalar(select(Instance.sop_instance_uid).where(Instance.path == name))
            raise_alert(session, "missing_file", uid or name, f"{name} is in the index but {what}")

    def _adopt(self, path: Path) -> None:
        """Index a file that a crash left without a row, by the same rules as a received one."""
        try:
            _check_name(path)
            incoming = _incoming_from_file(path)
        except Exception as error:  # whatever is wrong with it, it must not keep the node from starting
            target = safe_path(self.data_dir / "quarantine", f"{sha256_of(path)[:32]}.dcm")
            move_into_place(path, target)
            reason = str(error) if isinstance(error, HeaderError) else describe(error)
            why = f"a file without index row cannot be indexed ({reason}); kept as quarantine/{target.name}"
            self._alert("quarantine", target.stem, why)
            return
        status = self.receive(incoming)
        get_logger().info("instance_adopted", sop_instance_uid=incoming.sop_instance_uid, status=f"0x{status:04X}")
        with self._database.read() as session:
            name = str(path.relative_to(self.data_dir))
            if session.scalar(select(Instance.id).where(Instance.path == name)) is None and status != OUT_OF_RESOURCES:
                path.unlink(missing_ok=True)


# ---------------------------------------------------------------- records


def is_intact(row: Instance, data_dir: Path) -> bool:
    """Whether the file of an instance has the bytes that were received. A file may be cut where an element ends, and still
    be read without an error; size and SHA-256 show it."""
    path = data_dir / row.path
    return path.is_file() and path.stat().st_size == row.size and sha256_of(path) == row.sha256


def count_purged(session: Session, study_uid: str) -> int:
    """How many current images of a study were deleted by retention."""
    query = select(func.count()).select_from(Instance)
    mine = (Instance.study_uid == study_uid, Instance.is_current, Instance.is_own_result.is_(False))
    return session.scalar(query.where(*mine, Instance.purged_at.is_not(None))) or 0


def delete_purged(database: Database, data_dir: Path, *names: str) -> None:
    """Delete files whose rows say that they were purged. A file that has come again in the meantime stays: whoever receives it
    locks its row too."""
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
    """The newest version of every instance of a study, own results left out, in a fixed order."""
    query = select(Instance).where(
        Instance.study_uid == study_uid,
        Instance.is_current,
        Instance.is_own_result.is_(False),
        Instance.purged_at.is_(None),
    )
    return list(session.scalars(query.order_by(Instance.sop_instance_uid)))


def of_newest_patient(rows: Sequence[Instance], data_dir: Path) -> tuple[list[Instance], int]:
    """The instances of a study that belong to the patient of the newest one, and how many others there are.

    Two patients are found in one study after a correction that was sent again for a part of the images only.
    """
    if not rows:
        return [], 0
    patients = {row.id: read_patient_id(data_dir / row.path) for row in rows}
    newest = next((patients[key] for key in sorted(patients, reverse=True) if patients[key]), "")
    kept = [row for row in rows if not are_different({patients[row.id], newest})]
    return kept, len(rows) - len(kept)


def are_different(patient_ids: set[str]) -> bool:
    """Whether these are Patient IDs of two patients; an empty one says nothing."""
    return len(patient_ids - {""}) > 1


def read_patient_id(path: Path) -> str:
    """The Patient ID of a stored file; empty where it has none or cannot be read."""
    try:
        return _patient_id(dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"]))
    except Exception:  # whatever is wrong with the file, who reads its pixels will say so
        return ""


def _patient_id(dataset: Dataset) -> str:
    return str(dataset.get("PatientID") or "").strip(" \0")


def count_instances(session: Session) -> int:
    """Number of current instances that are on disk."""
    kept = (Instance.is_current, Instance.purged_at.is_(None))
    return session.scalar(select(func.count()).select_from(Instance).where(*kept)) or 0


def verify_files(database: Database, data_dir: Path) -> Iterator[tuple[str, str, str]]:
    """Check the bytes of every received and every made file against its SHA-256: UID or role, path, what is wrong."""
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


# ---------------------------------------------------------------- files


def prepare_folders(data_dir: Path) -> None:
    """Create the data folder's subfolders. Only the node's own user may look inside: the files are patient data."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
    for name in FOLDERS:
        (data_dir / name).mkdir(exist_ok=True, mode=0o750)
    sync_folder(data_dir)
    sync_folder(data_dir.parent)


def instance_path(data_dir: Path, identity: _Identity, sha256: str) -> Path:
    """Where a version of an instance is kept."""
    name = f"{identity.sop_instance_uid}-{sha256[:16]}.dcm"
    return safe_path(data_dir / "instances", identity.study_uid, identity.series_uid, name)


def encode_file_meta(incoming: Incoming) -> bytes:
    """Preamble and file meta information (PS3.10 7.1). Nothing in it changes with our version: the same data set
    received twice must give the same file, or every resend after an upgrade would look like a correction."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = incoming.sop_class_uid
    # A malformed one is in the data set still; the file only goes to quarantine.
    meta.MediaStorageSOPInstanceUID = incoming.sop_instance_uid if is_valid_uid(incoming.sop_instance_uid) else "0"
    meta.TransferSyntaxUID = incoming.transfer_syntax_uid
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = "SPINEONE"
    buffer = BytesIO()
    buffer.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return buffer.getvalue()


def _identify(header: InstanceHeader, incoming: Incoming) -> _Identity:
    """Check the UIDs of command and data set against each other and against the rules.

    Raises
    ------
    RefusedError
        0xA900 where command and data set differ, 0xC000 where a UID is missing or malformed.
    """
    if not is_valid_uid(incoming.sop_instance_uid):
        raise RefusedError(MISMATCH, "SOP Instance UID of the request is malformed")
    values = {}
    for keyword in ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"):
        value = str(header.dataset.get(keyword) or "")
        if not is_valid_uid(value):
            raise RefusedError(CANNOT_UNDERSTAND, f"{keyword} is {'malformed' if value else 'missing'}")
        values[keyword] = value
    if values["SOPInstanceUID"] != incoming.sop_instance_uid:
        raise RefusedError(MISMATCH, "SOP Instance UID of the request differs from the data set's")
    if values["SOPClassUID"] != incoming.sop_class_uid:
        raise RefusedError(MISMATCH, "SOP Class UID of the request differs from the data set's")
    return _Identity(
        sop_instance_uid=values["SOPInstanceUID"],
        sop_class_uid=values["SOPClassUID"],
        study_uid=values["StudyInstanceUID"],
        series_uid=values["SeriesInstanceUID"],
        patient_id=_patient_id(header.dataset),
        is_own_result=is_own_result(header.dataset),
    )


def _incoming_from_file(path: Path) -> Incoming:
    meta = read_file_meta_info(path)
    return Incoming(
        sop_class_uid=str(meta.MediaStorageSOPClassUID),
        sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
        transfer_syntax_uid=str(meta.TransferSyntaxUID),
        data=_data_set_bytes(path),
        calling_ae="(reconciled)",
        calling_address="",
    )


def _data_set_bytes(path: Path) -> bytes:
    """A stored file without its preamble and file meta; the group length element says where they end."""
    data = path.read_bytes()
    return data[144 + int.from_bytes(data[140:144], "little") :]


def _pixel_module(header: InstanceHeader) -> tuple[str, ...]:
    return tuple(str(header.dataset.get(keyword, "")) for keyword in PIXEL_KEYWORDS)


def _decode_to_same(first: Path, second: Path) -> bool:
    """Decode two files in a child process: a decoder that dies on corrupt data must not take the listener with it."""
    command = [sys.executable, "-m", "dicom_node.images.compare_pixels", str(first), str(second)]
    try:
        child = subprocess.run(command, capture_output=True, timeout=_COMPARE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return child.returncode == 0


def _check_name(path: Path) -> None:
    """A file is named after its content: one that was cut or changed shows it.

    Raises
    ------
    HeaderError
        If name and content differ.
    """
    if sha256_of(path)[:16] != path.stem.rpartition("-")[2]:
        raise HeaderError("it has other bytes than its name says")


def _files_below(root: Path, name: str) -> dict[str, int]:
    """Names below ``root`` and sizes of the files in a folder. Plain texts: a hundred thousand paths would take seconds."""
    found, folders = {}, [name]
    while folders:
        folder = folders.pop()
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{folder}/{entry.name}")
                else:
                    found[f"{folder}/{entry.name}"] = entry.stat(follow_symlinks=False).st_size
    return found


@contextmanager
def _no_garbage() -> Iterator[None]:
    """While much is built that stays, the collector would look through all of it again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
