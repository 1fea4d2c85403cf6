"""The audit log: audit messages as syslog lines (RFC 5424) in numbered files, ``audit/audit-000001.log`` in the data folder.

Every process appends to the newest file, under one lock; a line is on disk when `AuditLog.record` returns. The files are also
the spool of what an audit repository has not got yet (`audit_repository`). A log that cannot be written is an error in the
node's own log and holds nothing up: images are not refused because of it.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from sqlalchemy import func, select

from dicom_node.audit import message as audit_message
from dicom_node.audit.message import (
    APPLICATION,
    APPLICATION_LAUNCHER,
    Code,
    Message,
    Outcome,
    Participant,
    Patient,
    Study,
)
from dicom_node.database.tables import Database, Instance, utc_now
from dicom_node.settings.node import NodeSettings
from dicom_node.system.files import sync_folder
from dicom_node.system.log import get_logger, printable

FOLDER = "audit"
# Holds the position up to which the repository has everything.
SENT = "sent"
_PREFIX, _SUFFIX = "audit-", ".log"
# Facility 10 (security), severity 5 (notice), as PS3.15 A.6.1 wants it; so is the MSGID.
_PRIORITY, _MSGID = 10 * 8 + 5, "DICOM+RFC3881"
_MODE = 0o640


class AuditLog:
    """Writes audit messages of one process.

    Parameters
    ----------
    settings
        Of the whole node.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self.settings = settings
        self.rules = settings.audit
        self._folder = settings.data_dir / FOLDER

    def record(self, message: Message) -> None:
        """Append a message; on disk when this returns."""
        if not self.rules.enabled:
            return
        try:
            self._append(self._line(message))
        except OSError as error:
            get_logger().error("audit_failed", event_id=message.event.value, error=error.strerror or str(error.errno))

    def _line(self, message: Message) -> bytes:
        now = utc_now()
        source = self.settings.listener.ae_title
        xml = audit_message.encode(message, at=now, source_id=source, site=self.rules.site)
        stamp = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
        head = f"<{_PRIORITY}>1 {stamp} {_host()} SpineOneNode {os.getpid()} {_MSGID} - "
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
        return self._folder / f"{_PREFIX}{number:06d}{_SUFFIX}"

    def _write(self, path: Path, line: bytes) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, _MODE)
        try:
            size = os.fstat(descriptor).st_size
            if size == 0:
                self._give_to_node(descriptor)
            elif os.pread(descriptor, 1, size - 1) != b"\n":
                # A process died, or the disk was full, in the middle of a line.
                line = b"\n" + line
            while line:
                line = line[os.write(descriptor, line) :]
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def _give_to_node(self, descriptor: int) -> None:
        """Whatever the umask; and a command of root must not begin a file that the node's user cannot go on with."""
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

    def node(self, role: Code | None = None, *, is_requestor: bool = False) -> Participant:
        """This process of the node as a participant: AE title, host, process number."""
        title = self.settings.listener.ae_title
        return Participant(title, role, is_requestor, address=_host(), alternative_id=str(os.getpid()))

    def study(self, database: Database, study_uid: str, sop_classes: Mapping[str, int] | None = None) -> Study:
        """A study as the object of a message; without ``sop_classes``, with those of its images on disk."""
        classes = self._classes(database, study_uid) if sop_classes is None else sop_classes
        patient = self._patient(database, study_uid) if self.rules.enabled and self.rules.patient else None
        return Study(study_uid, dict(classes), patient)

    def _classes(self, database: Database, study_uid: str) -> dict[str, int]:
        here = (Instance.study_uid == study_uid) & Instance.is_current & Instance.purged_at.is_(None)
        query = select(Instance.sop_class_uid, func.count()).where(here).group_by(Instance.sop_class_uid)
        with database.read() as session:
            return dict(session.execute(query).all())

    def _patient(self, database: Database, study_uid: str) -> Patient | None:
        """Of the study's newest image."""
        here = (Instance.study_uid == study_uid) & Instance.is_current & Instance.purged_at.is_(None)
        with database.read() as session:
            name = session.scalar(select(Instance.path).where(here).order_by(Instance.id.desc()).limit(1))
        return None if name is None else patient_in(self.settings.data_dir / name)


def patient_in(path: Path) -> Patient | None:
    """The patient of a DICOM file; None where it cannot be read."""
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["PatientID", "PatientName"])
        return Patient(str(header.get("PatientID") or ""), str(header.get("PatientName") or ""))
    except Exception:  # a header may be broken in many ways; the event counts without it
        return None


def person(*, is_requestor: bool = True) -> Participant:
    """Who runs this command: the login name, also behind sudo."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):
        name = str(os.getuid())
    return Participant(name, is_requestor=is_requestor, address=_host())


@contextmanager
def activity(audit: AuditLog, role: str) -> Iterator[None]:
    """Start and stop of a process of the node; a stop by an error is a major failure."""
    titles = f"AETITLES={audit.settings.listener.ae_title}"
    process = Participant(f"{role}:{os.getpid()}", APPLICATION, address=_host(), alternative_id=titles)
    launcher = person()
    launcher = Participant(launcher.user_id, APPLICATION_LAUNCHER, is_requestor=True, address=launcher.address)
    outcome = Outcome.MAJOR_FAILURE
    audit.record(audit_message.application(process, launcher, started=True, outcome=Outcome.SUCCESS))
    try:
        yield
        outcome = Outcome.SUCCESS
    finally:
        audit.record(audit_message.application(process, launcher, started=False, outcome=outcome))


@contextmanager
def command(audit: AuditLog, what: str) -> Iterator[None]:
    """A person changes something by a command."""
    outcome = Outcome.SERIOUS_FAILURE
    try:
        yield
        outcome = Outcome.SUCCESS
    finally:
        who = [person(), audit.node()]
        title = audit.settings.listener.ae_title
        audit.record(audit_message.function_used(who, title, what, outcome=outcome))


# ---------------------------------------------------------------- the files


def files(folder: Path) -> list[Path]:
    """The log's files, the oldest first."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*{_SUFFIX}") if number_of(path))


def number_of(path: Path) -> int:
    """The number in a file's name; 0 for another file."""
    text = path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return int(text) if text.isdecimal() else 0


def read_position(folder: Path) -> tuple[int, int]:
    """Number of the file and offset up to which the repository has everything; zeros where nothing was sent yet."""
    try:
        number, offset = (folder / SENT).read_text().split()
        return int(number), int(offset)
    except (OSError, ValueError):
        return 0, 0


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for the lock: it is held for the time of one line."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _host() -> str:
    """This machine's name, fit for a syslog header."""
    return "".join(c for c in printable(socket.gethostname(), 255) if "!" <= c <= "~") or "-"
