"""The messages of storage commitment (PS3.4 J.3): the request in an N-ACTION, and the answer in an N-EVENT-REPORT."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_node.dicom.headers import HeaderError, is_valid_uid
from dicom_node.dicom.items import Item, ItemReader

SOP_CLASS = str(StorageCommitmentPushModel)
# The well-known Storage Commitment Push Model SOP Instance (PS3.4 J.3.5).
SOP_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST = 1  # Action Type ID
ALL_KEPT, SOME_FAILED = 1, 2  # Event Type IDs

# Failure Reason (0008,1197), PS3.3 C.14.1.1.
PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
CLASS_CONFLICT = 0x0119
NOT_SUPPORTED = 0x0122
DUPLICATE_TRANSACTION = 0x0131
RESOURCE_LIMITATION = 0x0213
_REASONS = {
    PROCESSING_FAILURE: "processing failure",
    NO_SUCH_INSTANCE: "no such object instance",
    CLASS_CONFLICT: "class and instance do not agree",
    NOT_SUPPORTED: "SOP class not supported",
    DUPLICATE_TRANSACTION: "transaction UID is in use",
    RESOURCE_LIMITATION: "resource limitation",
}

_CLASS, _INSTANCE, _REASON = 0x00081150, 0x00081155, 0x00081197
# The largest message in bytes: about 100,000 references.
LARGEST = 16_000_000
# DIMSE statuses (PS3.7 C).
INVALID_ARGUMENT = 0x0115
NO_SUCH_ACTION = 0x0123
NOT_AUTHORISED = 0x0124
_NO_ARGUMENT = 0x0114


class MessageError(Exception):
    """A request or an answer is invalid.

    It holds the DIMSE status to give and a reason without values of the data set.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """One SOP instance."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """A request to keep these instances."""

    transaction_uid: str
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class CommitmentAnswer:
    """Which instances are kept, and which are not, with the Failure Reason of each."""

    transaction_uid: str
    kept: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...] = ()

    @property
    def event_type(self) -> int:
        """Event Type ID."""
        return SOME_FAILED if self.failed else ALL_KEPT


def reason_text(reason: int) -> str:
    """A Failure Reason in words."""
    return f"0x{reason:04X} {_REASONS.get(reason, 'refused')}"


def encode_request(request: CommitmentRequest) -> Dataset:
    """The request as Action Information (PS3.4 table J.3-1)."""
    dataset = Dataset()
    dataset.TransactionUID = request.transaction_uid
    dataset.ReferencedSOPSequence = _items(request.references)
    return dataset


def encode_answer(answer: CommitmentAnswer) -> Dataset:
    """The answer as Event Information (PS3.4 table J.3-2); a sequence without items is left out."""
    dataset = Dataset()
    dataset.TransactionUID = answer.transaction_uid
    if answer.kept:
        dataset.ReferencedSOPSequence = _items(answer.kept)
    if answer.failed:
        dataset.FailedSOPSequence = _items(reference for reference, _ in answer.failed)
        for item, (_, reason) in zip(dataset.FailedSOPSequence, answer.failed, strict=True):
            item.FailureReason = reason
    return dataset


def read_request(data: bytes, transfer_syntax_uid: str) -> CommitmentRequest:
    """The request in an Action Information as it came.

    Raises
    ------
    MessageError
        If it cannot be read, or names no transaction or no instance.
    """
    reader = _read(data, transfer_syntax_uid)
    references = tuple(_reference(item) for item in _sequence(reader, "ReferencedSOPSequence"))
    if not references:
        raise MessageError(_NO_ARGUMENT, "no instance is named")
    return CommitmentRequest(_transaction(reader.dataset), references)


def read_answer(data: bytes, transfer_syntax_uid: str) -> CommitmentAnswer:
    """The answer in an Event Information as it came.

    Raises
    ------
    MessageError
        If it cannot be read or names no transaction.
    """
    reader = _read(data, transfer_syntax_uid)
    kept = tuple(_reference(item) for item in _sequence(reader, "ReferencedSOPSequence"))
    failed = tuple((_reference(item), _reason(reader, item)) for item in _sequence(reader, "FailedSOPSequence"))
    return CommitmentAnswer(_transaction(reader.dataset), kept, failed)


def _items(references: Iterable[Reference]) -> DicomSequence:
    items = []
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID = reference.sop_class_uid
        item.ReferencedSOPInstanceUID = reference.sop_instance_uid
        items.append(item)
    return DicomSequence(items)


def _read(data: bytes, transfer_syntax_uid: str) -> ItemReader:
    if len(data) > LARGEST:
        raise MessageError(RESOURCE_LIMITATION, "too many instances at once")
    try:
        return ItemReader(data, transfer_syntax_uid)
    except HeaderError as error:
        raise MessageError(INVALID_ARGUMENT, str(error)) from None


def _sequence(reader: ItemReader, keyword: str) -> Iterator[Item]:
    try:
        yield from reader.items(keyword)
    except Exception as error:  # hostile bytes fail in many ways when they are looked at
        raise MessageError(INVALID_ARGUMENT, f"{keyword} cannot be read ({type(error).__name__})") from None


def _transaction(dataset: Dataset) -> str:
    try:
        value = str(dataset.get("TransactionUID") or "")
    except Exception:  # as above
        value = ""
    return _checked(value, "TransactionUID")


def _reference(item: Item) -> Reference:
    return Reference(_uid(item, _CLASS, "ReferencedSOPClassUID"), _uid(item, _INSTANCE, "ReferencedSOPInstanceUID"))


def _uid(item: Item, tag: int, keyword: str) -> str:
    return _checked(item.get(tag, b"").decode("latin-1").strip(" \0"), keyword)


def _checked(value: str, keyword: str) -> str:
    if not is_valid_uid(value):
        raise MessageError(INVALID_ARGUMENT if value else _NO_ARGUMENT, f"{keyword} is missing or malformed")
    return value


def _reason(reader: ItemReader, item: Item) -> int:
    value = reader.number(item.get(_REASON, b""))
    return PROCESSING_FAILURE if value is None else value
