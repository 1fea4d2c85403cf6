"""One C-STORE request: checking its UIDs, and the status to answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info

from dicom_node.dicom.headers import PIXEL_KEYWORDS, Hold, InstanceHeader, hold_nothing, is_valid_uid
from dicom_node.dicom.identifiers import IMPLEMENTATION_CLASS_UID, is_own_result
from spineone_core.imaging.files import complete

# C-STORE statuses (PS3.4 B.2.3).
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000


class RefusedError(Exception):
    """An instance cannot be accepted. It holds the status to answer and the reason (without values of the data set)."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One object that a sender wants kept. ``data`` is the encoded data set without file meta."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data: bytes
    calling_ae: str
    calling_address: str
    # Preamble and file meta where the object came as a file, which is kept as it came; C-STORE brings none.
    head: bytes = b""
    # Asks for the memory that work on it needs beyond its own bytes.
    hold: Hold = field(default=hold_nothing, repr=False, compare=False)

    @staticmethod
    def of(event: Any, *, calling_ae: str, calling_address: str) -> Incoming:
        """The request in pynetdicom's C-STORE event."""
        request = event.request
        return Incoming(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            data=request.DataSet.getvalue(),
            calling_ae=calling_ae,
            calling_address=calling_address,
            hold=event.assoc.dimse.hold,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The UIDs under which an instance is filed."""

    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    is_own_result: bool


def encode_file_meta(incoming: Incoming) -> bytes:
    """Preamble and file meta information (PS3.10 7.1): those that came, or our own.

    Nothing in our own changes with our version: the same data set received twice must give the same file, or every resend
    after an upgrade would look like a correction.
    """
    if incoming.head:
        return incoming.head
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = incoming.sop_class_uid
    # A malformed UID is still in the data set; the file goes to quarantine anyway.
    meta.MediaStorageSOPInstanceUID = incoming.sop_instance_uid if is_valid_uid(incoming.sop_instance_uid) else "0"
    meta.TransferSyntaxUID = incoming.transfer_syntax_uid
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = "SPINEONE"
    buffer = BytesIO()
    buffer.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return buffer.getvalue()


def identify(header: InstanceHeader, incoming: Incoming) -> Identity:
    """Check the UIDs of the command and of the data set against each other and against the rules.

    A SOP Class UID that the data set lacks is the command's; it is filled in, in the parsed header only.

    Raises
    ------
    RefusedError
        With 0xA900 if command and data set differ, with 0xC000 if a UID is missing or malformed.
    """
    if not is_valid_uid(incoming.sop_instance_uid):
        raise RefusedError(MISMATCH, "SOP Instance UID of the request is malformed")
    complete(header.dataset, incoming.sop_class_uid)
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
    return Identity(
        sop_instance_uid=values["SOPInstanceUID"],
        sop_class_uid=values["SOPClassUID"],
        study_uid=values["StudyInstanceUID"],
        series_uid=values["SeriesInstanceUID"],
        is_own_result=is_own_result(header.dataset),
    )


def incoming_from_file(path: Path) -> Incoming:
    """A stored file as if it had just been sent; the address is empty, as nobody sent it."""
    meta = read_file_meta_info(path)
    return Incoming(
        sop_class_uid=str(meta.MediaStorageSOPClassUID),
        sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
        transfer_syntax_uid=str(meta.TransferSyntaxUID),
        data=data_set_bytes(path),
        calling_ae="(reconciled)",
        calling_address="",
    )


def data_set_bytes(path: Path) -> bytes:
    """The bytes of a stored file after its preamble and file meta; the group length element says where those end."""
    data = path.read_bytes()
    return data[144 + int.from_bytes(data[140:144], "little") :]


def pixel_module(header: InstanceHeader) -> tuple[str, ...]:
    """The values that decide what the pixel bytes mean (`PIXEL_KEYWORDS`), as text; empty where there are none."""
    return tuple(str(header.dataset.get(keyword, "")) for keyword in PIXEL_KEYWORDS)
