"""Received instances: success is answered only once the file is durable in its place and its index row is committed.

Every file is named after its content, so writing it twice is harmless and no version replaces another:
``instances/<study>/<series>/<SOP instance>-<first 16 digits of the SHA-256>.dcm`` below the data folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from dicom_node.alerts.record import close_alert, raise_alert, try_to_raise
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, StudyRow
from dicom_node.database.words import AlertKind
from dicom_node.dicom.headers import HeaderError, InstanceHeader, NoRoomError, is_valid_uid, read_header, shown_uid
from dicom_node.images import shown_patients, studies
from dicom_node.images.folders import instance_path, prepare_folders, unwritable
from dicom_node.images.incoming import (
    CANNOT_UNDERSTAND,
    OUT_OF_RESOURCES,
    SUCCESS,
    Identity,
    Incoming,
    RefusedError,
    data_set_bytes,
    encode_file_meta,
    identify,
    pixel_module,
)
from dicom_node.images.quarantine import Note, Quarantine
from dicom_node.images.records import is_intact
from dicom_node.images.same_pixels import decode_to_same
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import RetentionRules
from dicom_node.settings.study_rules import StudyRules
from dicom_node.system.clock import utc_now
from dicom_node.system.disk import free_room
from dicom_node.system.files import move_into_place, write_spool_file
from dicom_node.system.log import get_logger, printable


class InstanceStore:
    """Files and index rows of the received instances.

    Parameters
    ----------
    database
        The database that holds the index.
    data_dir
        The node's data folder; its subfolders are created.
    reserve_bytes
        The free space that must remain.
    study
        The rules on how large a study may become.
    quarantine_bytes
        How large the quarantine folder may become.
    shows_patients
        Whether Patient ID and Accession Number are kept in the database too (`shown_patients`).
    """

    def __init__(
        self,
        database: Database,
        data_dir: Path,
        *,
        reserve_bytes: int = 0,
        study: StudyRules | None = None,
        quarantine_bytes: int = int(RetentionRules().quarantine_max_gb * 1e9),
        shows_patients: bool = False,
    ) -> None:
        self._database = database
        self.data_dir = data_dir
        self._reserve = reserve_bytes
        self._study = study or StudyRules()
        self._shows_patients = shows_patients
        prepare_folders(data_dir)
        self.quarantine = Quarantine(data_dir, quarantine_bytes)

    @classmethod
    def of(cls, settings: NodeSettings, database: Database) -> Self:
        """The store of a node."""
        reserve = int(settings.retention.disk_reserve_gb * 1_000_000_000)
        return cls(
            database,
            settings.data_dir,
            reserve_bytes=reserve,
            study=settings.study,
            quarantine_bytes=int(settings.retention.quarantine_max_gb * 1_000_000_000),
            shows_patients=settings.shown.patient,
        )

    def has_room(self, size: int = 0) -> bool:
        """Whether the reserve stays untouched if ``size`` more bytes are written."""
        return not free_room(self.data_dir).lack(self._reserve + size)

    def receive(self, incoming: Incoming, *, filed: Callable[[str], None] = lambda study_uid: None) -> int:
        """Keep one instance; returns the C-STORE status to answer.

        ``filed`` is called with the Study Instance UID once that is known; it may raise `RefusedError`. Success is
        returned only after the file is durable and its index row is committed. An instance that cannot be accepted is
        answered with a failure; one that a sender would not send again is kept in quarantine, with an alert.
        """
        return self._answer(incoming, lambda: self._receive(incoming, filed))

    def set_aside(self, incoming: Incoming, why: str) -> int:
        """Keep an object that cannot be understood (a whole file, or what should be one) in quarantine, with an alert; returns
        the status to answer."""
        return self._answer(incoming, lambda: self._set_aside(incoming, why))

    def _answer(self, incoming: Incoming, keep: Callable[[], int]) -> int:
        """What ``keep`` returns, or the status for what it raises."""
        try:
            return keep()
        except RefusedError as refusal:
            self._log("refused", incoming, status=f"0x{refusal.status:04X}", why=refusal.why)
            return refusal.status
        except NoRoomError:
            return self.refuse_too_large(incoming.sop_instance_uid, incoming.calling_ae)
        except (OSError, SQLAlchemyError):
            get_logger().exception("store_failed", sop_instance_uid=shown_uid(incoming.sop_instance_uid))
            if unwritable(self.data_dir):
                self.tell_of_no_room()
            return OUT_OF_RESOURCES

    def why_no_room(self) -> str:
        """Why no image can be kept: the reserve is reached, or nothing can be written. Empty if neither is so."""
        return free_room(self.data_dir).lack(self._reserve) or unwritable(self.data_dir)

    def tell_of_no_room(self) -> None:
        """Open the alert about the reserve, or count one more refusal because of it."""
        lack = self.why_no_room() or "free space would fall under the reserve"
        try_to_raise(self._database, AlertKind.DISK_RESERVE, str(self.data_dir), f"{lack}: images are refused")

    def refuse_too_large(self, sop_instance_uid: object, calling_ae: str) -> int:
        """Refuse an object that is over a limit and was not kept; returns the status to answer."""
        uid = shown_uid(sop_instance_uid)
        get_logger().warning("instance_refused", sop_instance_uid=uid, calling_ae=calling_ae, why="too large")
        detail = f"{uid}: over max_object_mb of [listener], or max_memory_mb with all that came at the same time"
        try_to_raise(self._database, AlertKind.REFUSED, f"{calling_ae}: an object is too large", detail)
        return OUT_OF_RESOURCES

    def _check_room(self, incoming: Incoming) -> None:
        if not self.has_room(len(incoming.data)):
            self.tell_of_no_room()
            raise RefusedError(OUT_OF_RESOURCES, "disk reserve")

    def _set_aside(self, incoming: Incoming, why: str) -> int:
        self._check_room(incoming)
        digest = hashlib.sha256(incoming.head)
        digest.update(incoming.data)
        self._quarantine(incoming.head, incoming, digest.hexdigest(), why)
        raise RefusedError(CANNOT_UNDERSTAND, why)

    def _receive(self, incoming: Incoming, filed: Callable[[str], None]) -> int:
        self._check_room(incoming)
        meta = encode_file_meta(incoming)
        digest = hashlib.sha256(meta)
        digest.update(incoming.data)
        sha256 = digest.hexdigest()
        try:
            header = read_header(incoming.data, incoming.transfer_syntax_uid, hold=incoming.hold)
            identity = identify(header, incoming)
        except HeaderError as error:
            self._quarantine(meta, incoming, sha256, f"data set {error}")
            raise RefusedError(CANNOT_UNDERSTAND, str(error)) from None
        except RefusedError as refusal:
            self._quarantine(meta, incoming, sha256, refusal.why)
            raise
        filed(identity.study_uid)
        return self._keep(meta, incoming, header, identity, sha256)

    def _keep(self, meta: bytes, incoming: Incoming, header: InstanceHeader, identity: Identity, sha256: str) -> int:
        for _ in range(5):
            known = self._known_versions(identity.sop_instance_uid)
            current = next((row for row in known if row.is_current), None)
            is_current = current is not None and current.sha256 == sha256
            if current is not None and is_current and self._is_in_place(current):
                self._log("duplicate", incoming)
                return SUCCESS
            if current is not None and incoming.head and self._has_data_set_of(current, incoming):
                self._log("duplicate", incoming)
                return SUCCESS
            # If the file was lost, damaged or purged, the very same bytes are welcome again; those of an earlier version take the
            # later ones back.
            is_known = any(row.sha256 == sha256 for row in known)
            conflict = ""
            if current is not None and not is_current:
                conflict = self._conflict(current, header, identity, meta, incoming)
            if conflict:
                self._quarantine(meta, incoming, sha256, conflict)
                return SUCCESS
            if not is_known:
                self._check_study_limits(identity, incoming)
            target = instance_path(self.data_dir, identity, sha256)
            move_into_place(write_spool_file(self.data_dir / "spool", (meta, incoming.data)), target)
            if self._index(incoming, identity, sha256, target, expected=current):
                self._note_patient(identity, header)
                return SUCCESS
        raise RefusedError(OUT_OF_RESOURCES, "the same instance is being received several times at once")

    def _note_patient(self, identity: Identity, header: InstanceHeader) -> None:
        """Keep whose image it is for the screen; the image is stored whether that succeeds or not."""
        if not self._shows_patients or identity.is_own_result:
            return
        try:
            with self._database.write() as session:
                shown_patients.note(session, identity.study_uid, header.dataset)
        except SQLAlchemyError as error:
            get_logger().warning("patient_not_noted", study_uid=identity.study_uid, why=type(error).__name__)

    def _check_study_limits(self, identity: Identity, incoming: Incoming) -> None:
        """Check that the study may still grow.

        Raises
        ------
        RefusedError
            With 0xA700 if the study has become too large. Associations that store at the same time may each exceed the
            limit by one image.
        """
        with self._database.read() as session:
            images, stored = _kept_of(session, identity)
        rules, size = self._study, (stored + len(incoming.data)) / 1e9
        if not images or (images < rules.max_images and size <= rules.max_gb):
            return
        has = f"it has {images} images, {stored / 1e6:.0f} MB together"
        limits = f"study.max_images is {rules.max_images}, study.max_gb {rules.max_gb:g}"
        self.alert(AlertKind.STUDY_LIMIT, identity.study_uid, f"{has}; {limits}; more came from {incoming.calling_ae}")
        raise RefusedError(OUT_OF_RESOURCES, "the study is larger than the settings allow")

    def _known_versions(self, sop_instance_uid: str) -> list[Instance]:
        with self._database.read() as session:
            return list(session.scalars(select(Instance).where(Instance.sop_instance_uid == sop_instance_uid)))

    def _is_in_place(self, row: Instance) -> bool:
        return row.purged_at is None and is_intact(row, self.data_dir)

    def _has_data_set_of(self, current: Instance, incoming: Incoming) -> bool:
        """Whether the stored file has the very data set that came as a file, under another preamble or file meta."""
        if current.transfer_syntax_uid != incoming.transfer_syntax_uid or not self._is_in_place(current):
            return False
        incoming.hold(current.size)
        return data_set_bytes(self.data_dir / current.path) == incoming.data

    def _conflict(
        self, current: Instance, header: InstanceHeader, identity: Identity, meta: bytes, incoming: Incoming
    ) -> str:
        """Why a second version of an instance cannot replace the first; empty if it can."""
        if current.study_uid != identity.study_uid or current.sop_class_uid != identity.sop_class_uid:
            return "the same SOP Instance UID was received in another study or class"
        if not self._same_pixels(current, header, meta, incoming):
            return "the same SOP Instance UID was received with other pixels"
        return ""

    def _same_pixels(self, current: Instance, header: InstanceHeader, meta: bytes, incoming: Incoming) -> bool:
        stored_path = self.data_dir / current.path
        try:
            if not is_intact(current, self.data_dir):
                raise HeaderError("damaged")
            incoming.hold(current.size)
            stored = read_header(data_set_bytes(stored_path), current.transfer_syntax_uid, hold=incoming.hold)
        except (OSError, HeaderError):
            # The stored file is lost or damaged (there is an alert for it), so the new one is better.
            return True
        if not stored.pixel_bytes and not header.pixel_bytes:
            return True
        same_syntax = current.transfer_syntax_uid == incoming.transfer_syntax_uid
        if same_syntax and stored.pixel_bytes == header.pixel_bytes and pixel_module(stored) == pixel_module(header):
            return True
        spooled = write_spool_file(self.data_dir / "spool", (meta, incoming.data))
        try:
            return decode_to_same(stored_path, spooled)
        except TimeoutError as error:
            raise RefusedError(OUT_OF_RESOURCES, str(error)) from None
        finally:
            spooled.unlink(missing_ok=True)

    def _index(
        self, incoming: Incoming, identity: Identity, sha256: str, target: Path, expected: Instance | None
    ) -> bool:
        """Commit the index row; False if another association was first and the rules must be checked again."""
        try:
            return self._index_row(incoming, identity, sha256, target, expected)
        except IntegrityError:
            return False

    def _index_row(
        self, incoming: Incoming, identity: Identity, sha256: str, target: Path, expected: Instance | None
    ) -> bool:
        now = utc_now()
        with self._database.write() as session:
            uid = identity.sop_instance_uid
            rows = list(session.scalars(select(Instance).where(Instance.sop_instance_uid == uid).with_for_update()))
            current = next((row for row in rows if row.is_current), None)
            if (current.id if current else None) != (expected.id if expected else None):
                return False
            again = next((row for row in rows if row.sha256 == sha256), None)
            if again is not None and not target.is_file():
                # Retention has deleted the new file together with the old one: try once more.
                return False
            if again is not None and again.is_current:
                self._whole_again(session, again)
                return True
            if current is not None:
                current.is_current = False
            if again is not None:
                # Rows are in the order in which their bytes were received: the old one makes place for a new one.
                session.delete(again)
            session.flush()
            session.add(
                Instance(
                    sop_instance_uid=uid,
                    version=max((row.version for row in rows), default=0) + 1,
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
                if again is None:
                    study.stored_images += 1
                    study.stored_bytes += target.stat().st_size
            if again is None or again.purged_at is not None:
                studies.count_file(session, identity.study_uid)
        return True

    def _whole_again(self, session: Session, row: Instance) -> None:
        """Take an instance that is indexed but was lost, or deleted by retention: its study counts it as new."""
        close_alert(session, AlertKind.MISSING_FILE, row.sop_instance_uid)
        if row.purged_at is not None:
            studies.count_file(session, row.study_uid)
        row.purged_at = None
        if not row.is_own_result:
            studies.image_arrived(session, row.study_uid, utc_now())

    def _quarantine(self, meta: bytes, incoming: Incoming, sha256: str, why: str) -> None:
        """Keep an object aside, with an alert.

        Raises
        ------
        RefusedError
            With 0xA700 if there is no room for it.
        """
        target = self.quarantine.keep(sha256, (meta, incoming.data), Note.of(why, incoming.calling_ae))
        if target is None:
            full = "retention.quarantine_max_gb is reached: what would go there is refused; look at the files there"
            self.alert(AlertKind.QUARANTINE, str(self.quarantine.folder), full)
            raise RefusedError(OUT_OF_RESOURCES, "the quarantine is full")
        subject = incoming.sop_instance_uid if is_valid_uid(incoming.sop_instance_uid) else sha256[:32]
        self.alert(
            AlertKind.QUARANTINE, subject, f"{why}; kept as quarantine/{target.name}, from {incoming.calling_ae}"
        )

    def alert(self, kind: AlertKind, subject: str, detail: str) -> None:
        """Raise an alert in its own transaction."""
        with self._database.write() as session:
            raise_alert(session, kind, subject, detail)

    def _log(self, event: str, incoming: Incoming, **fields: str) -> None:
        uid = shown_uid(incoming.sop_instance_uid)
        get_logger().info(
            f"instance_{event}", sop_instance_uid=uid, calling_ae=printable(incoming.calling_ae), **fields
        )


def _kept_of(session: Session, identity: Identity) -> tuple[int, int]:
    """How many images and bytes of a study were kept.

    Objects that say they are results of ours are counted by themselves: anybody can say that, and no study row has them.
    """
    if not identity.is_own_result:
        study = session.get(StudyRow, identity.study_uid)
        return (study.stored_images, study.stored_bytes) if study else (0, 0)
    mine = (Instance.study_uid == identity.study_uid, Instance.is_own_result)
    count, size = session.execute(select(func.count(), func.sum(Instance.size)).where(*mine)).one()
    return count, int(size or 0)
