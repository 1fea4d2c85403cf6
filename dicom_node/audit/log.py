"""The audit log: audit messages as syslog lines (RFC 5424) in numbered files.

The first file is ``audit/audit-000001.log`` in the data folder. Every process appends to the newest file, under one
lock; a line is on disk when `AuditLog.record` returns. The files are also the spool of what an audit repository does
not have yet (`repository`). If the audit log cannot be written, the node's own log gets an error, but nothing is held
up: no image is refused because of it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import func, select

from dicom_node.audit import message as audit_message
from dicom_node.audit.message import (
    AuditCode,
    AuditedStudy,
    AuditMessage,
    Participant,
    Patient,
    host_name,
)
from dicom_node.audit.spool import PREFIX, SUFFIX, files, number_of, read_position
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.system.files import sync_folder
from dicom_node.system.log import get_logger
from spineone_core.imaging.file_extent import read_flat

FOLDER = "audit"
# Facility 10 (security), severity 5 (notice) and the MSGID are those that PS3.15 A.6.1 asks for.
_PRIORITY, _MSGID = 10 * 8 + 5, "DICOM+RFC3881"
_MODE = 0o640


class AuditLog:
    """Writes the audit messages of one process.

    Parameters
    ----------
    settings
        The settings of the whole node.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self.settings = settings
        self.rules = settings.audit
        self._folder = settings.data_dir / FOLDER

    def record(self, message: AuditMessage) -> None:
        """Append a message; it is on disk when this returns."""
        if not self.rules.enabled:
            return
        try:
            self._append(self._line(message))
        except OSError as error:
            get_logger().error("audit_failed", event_id=message.event.value, error=error.strerror or str(error.errno))

    def _line(self, message: AuditMessage) -> bytes:
        now = utc_now()
        source = self.settings.listener.ae_title
        xml = audit_message.encode(message, at=now, source_id=source, site=self.rules.site)
        stamp = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
        head = f"<{_PRIORITY}>1 {stamp} {host_name()} SpineOneNode {os.getpid()} {_MSGID} - "
        return head.encode("ascii") + xml + b"\n"

    def _append(self, line: bytes) -> None:
        self._folder.mkdir(exist_ok=True, mode=0o750)
        with _locked(self._folder / "lock"):
            known = files(self._folder)
            path = known[-1] if known else self._numbered(1)
            if known and path.stat().st_size + len(line) > self.rules.file_mb * 1_000_000:
                path = self._numbered(number_of(path) + 1)
            self._write(path, line)
            if path not in known:
                sync_folder(self._folder)
                self._forget_old([*known, path])

    def _numbered(self, number: int) -> Path:
        return self._folder / f"{PREFIX}{number:06d}{SUFFIX}"

    def _write(self, path: Path, line: bytes) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, _MODE)
        try:
            size = os.fstat(descriptor).st_size
            if size == 0:
                self._give_to_node(descriptor)
            elif os.pread(descriptor, 1, size - 1) != b"\n":
                # A process died or the disk filled up in the middle of a line.
                line = b"\n" + line
            while line:
                line = line[os.write(descriptor, line) :]
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def _give_to_node(self, descriptor: int) -> None:
        """Give a new file the right mode, whatever the umask, and the right owner.

        When root runs a command, it must not begin a file that the node's user cannot go on with.
        """
        os.fchmod(descriptor, _MODE)
        owner = self.settings.data_dir.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            for place in (descriptor, self._folder, self._folder / "lock"):
                os.chown(place, owner.st_uid, owner.st_gid)

    def _forget_old(self, known: list[Path]) -> None:
        if not self.rules.keep_files:
            return
        begun, _ = read_position(self._folder)
        for path in known[: -self.rules.keep_files]:
            if not self.rules.repository_host or number_of(path) < begun:
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------ who and what

    def node(self, role: AuditCode | None = None, *, is_requestor: bool = False) -> Participant:
        """This process of the node as a participant: AE title, host, process number."""
        title = self.settings.listener.ae_title
        return Participant(title, role, is_requestor, address=host_name(), alternative_id=str(os.getpid()))

    def study(self, database: Database, study_uid: str, sop_classes: Mapping[str, int] | None = None) -> AuditedStudy:
        """A study as the object of a message; ``sop_classes`` default to those of its images on disk."""
        classes = self._classes(database, study_uid) if sop_classes is None else sop_classes
        patient = self._patient(database, study_uid) if self.rules.enabled and self.rules.patient else None
        return AuditedStudy(study_uid, dict(classes), patient)

    def _classes(self, database: Database, study_uid: str) -> dict[str, int]:
        here = (Instance.study_uid == study_uid) & Instance.is_current & Instance.purged_at.is_(None)
        query = select(Instance.sop_class_uid, func.count()).where(here).group_by(Instance.sop_class_uid)
        with database.read() as session:
            return dict(session.execute(query).all())

    def _patient(self, database: Database, study_uid: str) -> Patient | None:
        """The patient of the study's newest image."""
        here = (Instance.study_uid == study_uid) & Instance.is_current & Instance.purged_at.is_(None)
        with database.read() as session:
            name = session.scalar(select(Instance.path).where(here).order_by(Instance.id.desc()).limit(1))
        return None if name is None else patient_in(self.settings.data_dir / name)


def patient_in(path: Path) -> Patient | None:
    """The patient of a DICOM file; None if the file cannot be read."""
    try:
        # Without its sequences: the listener asks too, and an object may hold very many items.
        header = read_flat(path)
        return Patient(str(header.get("PatientID") or ""), str(header.get("PatientName") or ""))
    except Exception:  # a header may be broken in many ways; the event matters even without the patient
        return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for the lock; each process holds it only while it writes one line."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
