"""The parts of a multipart body that hold DICOM files: each is kept as it came, by the rules of the store.

STOW-RS brings such bodies, and WADO-RS answers with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from dicom_node.audit.transfers import Receiving
from dicom_node.dicom.budget import Budget
from dicom_node.dicom.headers import NoRoomError, is_valid_uid, shown_uid
from dicom_node.dicomweb.media_type import media_type_of
from dicom_node.dicomweb.multipart_reader import PartBegins, PartData, PartEvent
from dicom_node.dicomweb.part10 import ArrivingFile, Part10, Part10Error
from dicom_node.dicomweb.store_answer import CLASS_NOT_SUPPORTED, SYNTAX_NOT_SUPPORTED, StoreAnswer, Told
from dicom_node.images.incoming import CANNOT_UNDERSTAND, MISMATCH, OUT_OF_RESOURCES, Incoming, RefusedError
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.contexts import storage_sop_classes, transfer_syntaxes
from dicom_node.receiving.visits import Visit
from dicom_node.system.log import get_logger

DICOM = "application/dicom"
_NOT_ENCODED = ("", "binary", "8bit", "7bit", "identity")


@dataclass
class Parts:
    """Takes the parts of one body, one after the other.

    Parameters
    ----------
    visit
        Who sends them; memory is taken for it.
    store
        Keeps them.
    budget
        The memory that they may take.
    note
        Is told of each instance: Study Instance UID (empty if it is not known), SOP class, status.
    study_uid
        The only study that is accepted; empty for any.
    """

    visit: Visit
    store: InstanceStore
    budget: Budget
    note: Callable[[str, str, int], None]
    study_uid: str = ""
    answer: StoreAnswer = field(default_factory=StoreAnswer)
    _file: ArrivingFile = field(default_factory=ArrivingFile)
    _syntax: str = ""
    # Why the part that is coming is not kept: a Failure Reason; 0 as long as there is none.
    _refusal: int = 0
    # The instance in it, where that was seen before it turned out to be too large.
    _dropped: Told = field(default_factory=Told)

    def take(self, event: PartEvent) -> Callable[[], None] | None:
        """Take one event of the reader; returns what must be done before the next one, which may wait for disk and database."""
        if isinstance(event, PartBegins):
            self._begin(event)
        elif isinstance(event, PartData):
            self._add(event.data)
        else:
            if not event.is_whole:
                self._drop()
            return self._finish
        return None

    def _begin(self, part: PartBegins) -> None:
        media_type = media_type_of(part.fields.get("content-type", DICOM))
        coding = (
            part.fields.get("content-transfer-encoding", "").lower(),
            part.fields.get("content-encoding", "").lower(),
        )
        self._file, self._syntax, self._refusal, self._dropped = ArrivingFile(), "", 0, Told()
        if media_type is None or media_type.name != DICOM or not set(coding) <= set(_NOT_ENCODED):
            self._refusal = CANNOT_UNDERSTAND
        else:
            self._syntax = media_type.parameters.get("transfer-syntax", "").strip("*")

    def _add(self, data: bytes) -> None:
        if not self._refusal and self.budget.take(self.visit, len(data)):
            self._file.add(data)
        elif not self._refusal:
            self._drop()

    def _drop(self) -> None:
        """The file is larger than the limits allow: only its name stays."""
        if not self._refusal:
            self._dropped = _told(self._file)
            self._file, self._refusal = ArrivingFile(), OUT_OF_RESOURCES
            self.budget.give_back(self.visit)

    def _finish(self) -> None:
        try:
            told, study_uid, status = self._refused() if self._refusal else self._keep()
        except Exception:  # nothing that a peer sends may end the process
            get_logger().exception("store_failed")
            told, study_uid, status = Told(), "", CANNOT_UNDERSTAND
        finally:
            self._file = ArrivingFile()
            self.budget.give_back(self.visit)
        self.answer.note(told, status)
        self.note(study_uid, told.sop_class_uid, status)

    def _refused(self) -> tuple[Told, str, int]:
        if self._refusal == OUT_OF_RESOURCES:
            self.store.refuse_too_large(self._dropped.sop_instance_uid, self.visit.requestor.ae_title)
        return self._dropped, "", self._refusal

    def _keep(self) -> tuple[Told, str, int]:
        try:
            file = self._file.finish()
        except Part10Error as error:
            return Told(), "", self.store.set_aside(self._incoming(b"", self._file.everything()), f"data set {error}")
        told, incoming = _told_of(file), self._incoming(file.head, file.data, file)
        if file.sop_class_uid not in _accepted()[0]:
            return told, "", CLASS_NOT_SUPPORTED
        if file.transfer_syntax_uid not in _accepted()[1]:
            return told, "", SYNTAX_NOT_SUPPORTED
        if self._syntax not in ("", file.transfer_syntax_uid):
            status = self.store.set_aside(incoming, "the part's transfer-syntax is not that of its file")
            return told, "", MISMATCH if status == CANNOT_UNDERSTAND else status
        studies: list[str] = []

        def filed(study_uid: str) -> None:
            if self.study_uid not in ("", study_uid):
                raise RefusedError(MISMATCH, "Study Instance UID of the request differs from the data set's")
            studies.append(study_uid)

        status = self.store.receive(incoming, filed=filed)
        return told, "".join(studies), status

    def _incoming(self, head: bytes, data: bytes, file: Part10 | None = None) -> Incoming:
        sender = self.visit.requestor
        return Incoming(
            sop_class_uid=file.sop_class_uid if file else "",
            sop_instance_uid=file.sop_instance_uid if file else "",
            transfer_syntax_uid=file.transfer_syntax_uid if file else "",
            data=data,
            calling_ae=sender.ae_title,
            calling_address=sender.address,
            head=head,
            hold=self._hold,
        )

    def _hold(self, size: int) -> None:
        if not self.budget.take(self.visit, size):
            raise NoRoomError("more memory than is left")


def noting(audit: Receiving, visit: Visit) -> Callable[[str, str, int], None]:
    """What tells the audit log of each instance of a request."""
    return lambda study_uid, sop_class, status: audit.stored(
        visit, visit.requestor.ae_title, study_uid, shown_uid(sop_class), status
    )


@cache
def _accepted() -> tuple[frozenset[str], frozenset[str]]:
    """SOP classes and transfer syntaxes that the listener accepts too."""
    return frozenset(storage_sop_classes()), frozenset(transfer_syntaxes())


def _told(file: ArrivingFile) -> Told:
    try:
        return _told_of(file.finish())
    except Part10Error:
        return Told()


def _told_of(file: Part10) -> Told:
    """The UIDs to answer; what has not the form of one is not repeated."""
    both = file.sop_class_uid, file.sop_instance_uid
    return Told(*both) if all(map(is_valid_uid, both)) else Told()
