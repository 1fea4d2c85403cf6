"""Audit messages: one XML document for each event, in the schema of PS3.15 A.5.1, with the content of A.5.3.

The codes come from PS3.16 CID 400 (events), 401 (kinds of events), 402 (roles) and 405 (media). Text from outside is
reduced to one line of printable characters and escaped. The XML is plain ASCII, so that a syslog message needs no byte
order mark.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from xml.etree import ElementTree

from dicom_node.system.log import printable

_LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True)
class AuditCode:
    """A coded value; its scheme is DICOM's unless another one is named."""

    value: str
    meaning: str
    scheme: str = "DCM"


APPLICATION_ACTIVITY = AuditCode("110100", "Application Activity")
BEGIN_TRANSFERRING = AuditCode("110102", "Begin Transferring DICOM Instances")
INSTANCES_ACCESSED = AuditCode("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = AuditCode("110104", "DICOM Instances Transferred")
STUDY_DELETED = AuditCode("110105", "DICOM Study Deleted")
EXPORT = AuditCode("110106", "Export")
IMPORT = AuditCode("110107", "Import")
QUERY = AuditCode("110112", "Query")
SECURITY_ALERT = AuditCode("110113", "Security Alert")

APPLICATION_START = AuditCode("110120", "Application Start")
APPLICATION_STOP = AuditCode("110121", "Application Stop")
NODE_AUTHENTICATION = AuditCode("110126", "Node Authentication")
RESTRICTED_FUNCTION = AuditCode("110132", "Use of Restricted Function")

APPLICATION = AuditCode("110150", "Application")
APPLICATION_LAUNCHER = AuditCode("110151", "Application Launcher")
DESTINATION = AuditCode("110152", "Destination Role ID")
SOURCE = AuditCode("110153", "Source Role ID")
DESTINATION_MEDIA = AuditCode("110154", "Destination Media")
SOURCE_MEDIA = AuditCode("110155", "Source Media")
URI = AuditCode("110037", "URI")

STUDY_UID = AuditCode("110180", "Study Instance UID")
CLASS_UID = AuditCode("110181", "SOP Class UID")
NODE_ID = AuditCode("110182", "Node ID")
PATIENT_NUMBER = AuditCode("2", "Patient Number", "RFC-3881")


class Action(StrEnum):
    """EventActionCode."""

    CREATE = "C"
    READ = "R"
    DELETE = "D"
    EXECUTE = "E"


class EventOutcome(StrEnum):
    """EventOutcomeIndicator."""

    SUCCESS = "0"
    # The action is, or can be, tried again.
    MINOR_FAILURE = "4"
    # The action was ended.
    SERIOUS_FAILURE = "8"
    # The application is not available any more.
    MAJOR_FAILURE = "12"


@dataclass(frozen=True, slots=True)
class Participant:
    """A person, process or medium that takes part (ActiveParticipant).

    Parameters
    ----------
    user_id
        AE title, name of a process, login name or URI.
    role
        RoleIDCode.
    address
        IP address or host name (NetworkAccessPointID).
    alternative_id
        ``AETITLES=...`` or a process number (PS3.15 A.5.2.2).
    media
        The kind of medium.
    """

    user_id: str
    role: AuditCode | None = None
    is_requestor: bool = False
    address: str = ""
    alternative_id: str = ""
    media: AuditCode | None = None


@dataclass(frozen=True, slots=True)
class Patient:
    """The patient of a study; written only if the settings ask for it."""

    patient_id: str
    name: str


@dataclass(frozen=True, slots=True)
class AuditedStudy:
    """A study, and how many instances of which SOP classes the event is about."""

    study_uid: str
    sop_classes: Mapping[str, int]
    patient: Patient | None = None
    is_anonymized: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """The identifier of a C-FIND."""

    sop_class_uid: str
    identifier: bytes
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Alerted:
    """What a security alert is about: a node or a part of it, and what happened."""

    node_id: str
    what: str


@dataclass(frozen=True, slots=True)
class AuditMessage:
    """One event."""

    event: AuditCode
    action: Action
    participants: Sequence[Participant]
    outcome: EventOutcome = EventOutcome.SUCCESS
    kind: AuditCode | None = None
    description: str = ""
    objects: Sequence[AuditedStudy | Asked | Alerted] = field(default=())


def encode(message: AuditMessage, *, at: datetime, source_id: str, site: str = "") -> bytes:
    """The message as one line of ASCII XML.

    Parameters
    ----------
    at
        When it happened, as a timezone-aware time.
    source_id
        The system that reports it (AuditSourceID).
    site
        AuditEnterpriseSiteID; it is left out if empty.
    """
    root = ElementTree.Element("AuditMessage")
    _event(root, message, at)
    for participant in message.participants:
        _participant(root, participant)
    source = _child(root, "AuditSourceIdentification", AuditEnterpriseSiteID=site, AuditSourceID=source_id)
    # Application server process.
    ElementTree.SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})
    patients = {}
    for thing in message.objects:
        if isinstance(thing, AuditedStudy):
            _study(root, thing)
            patients[thing.patient] = thing.patient
        elif isinstance(thing, Asked):
            _query(root, thing)
        else:
            _alerted(root, thing)
    for patient in filter(None, patients):
        _patient(root, patient)
    return ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True).replace(b"\n", b"")


def _child(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    """An element with those attributes that are not empty."""
    given = {name: printable(value, _LONGEST_TEXT) for name, value in attributes.items() if value}
    return ElementTree.SubElement(parent, tag, given)


def _coded(parent: ElementTree.Element, tag: str, code: AuditCode) -> None:
    attributes = {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning}
    ElementTree.SubElement(parent, tag, attributes)


def _text(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = printable(text, _LONGEST_TEXT)


def _event(root: ElementTree.Element, message: AuditMessage, at: datetime) -> None:
    event = _child(
        root,
        "EventIdentification",
        EventActionCode=message.action,
        EventDateTime=at.isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=message.outcome,
    )
    _coded(event, "EventID", message.event)
    if message.kind is not None:
        _coded(event, "EventTypeCode", message.kind)
    if message.description:
        _text(event, "EventOutcomeDescription", message.description)


def _participant(root: ElementTree.Element, participant: Participant) -> None:
    element = _child(
        root,
        "ActiveParticipant",
        UserID=participant.user_id or "unknown",
        AlternativeUserID=participant.alternative_id,
        UserIsRequestor=str(participant.is_requestor).lower(),
        NetworkAccessPointID=participant.address,
        NetworkAccessPointTypeCode=_address_type(participant.address),
    )
    if participant.role is not None:
        _coded(element, "RoleIDCode", participant.role)
    if participant.media is not None:
        _coded(ElementTree.SubElement(element, "MediaIdentifier"), "MediaType", participant.media)


def _address_type(address: str) -> str:
    """The type of an address: 1 for a machine name, 2 for an IP address."""
    if not address:
        return ""
    return "2" if ":" in address or address.replace(".", "").isdigit() else "1"


def _object(
    root: ElementTree.Element, uid: str, id_type: AuditCode, *, type_code: str, role: str
) -> ElementTree.Element:
    element = _child(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=uid,
        ParticipantObjectTypeCode=type_code,
        ParticipantObjectTypeCodeRole=role,
    )
    _coded(element, "ParticipantObjectIDTypeCode", id_type)
    return element


def _detail(element: ElementTree.Element, kind: str, value: bytes) -> None:
    # Every value is encoded in base64, whatever it is (ValuePair).
    attributes = {"type": kind, "value": base64.b64encode(value).decode("ascii")}
    ElementTree.SubElement(element, "ParticipantObjectDetail", attributes)


def _study(root: ElementTree.Element, study: AuditedStudy) -> None:
    uid = study.study_uid or "unknown"
    element = _object(root, uid, STUDY_UID, type_code="2", role="3")
    # The schema asks for a name; a study has no name but its UID.
    _text(element, "ParticipantObjectName", uid)
    if not study.sop_classes:
        return
    content = ElementTree.SubElement(element, "ParticipantObjectDescription")
    for uid, count in sorted(study.sop_classes.items()):
        _child(content, "SOPClass", UID=uid, NumberOfInstances=str(count))
    if study.is_anonymized:
        _text(content, "Anonymized", "true")


def _patient(root: ElementTree.Element, patient: Patient) -> None:
    element = _object(root, patient.patient_id or "unknown", PATIENT_NUMBER, type_code="1", role="1")
    _text(element, "ParticipantObjectName", patient.name)


def _query(root: ElementTree.Element, asked: Asked) -> None:
    element = _object(root, asked.sop_class_uid, CLASS_UID, type_code="2", role="3")
    query = ElementTree.SubElement(element, "ParticipantObjectQuery")
    query.text = base64.b64encode(asked.identifier).decode("ascii")
    _detail(element, "TransferSyntax", asked.transfer_syntax_uid.encode())


def _alerted(root: ElementTree.Element, alerted: Alerted) -> None:
    element = _object(root, alerted.node_id or "unknown", NODE_ID, type_code="2", role="13")
    _text(element, "ParticipantObjectName", alerted.node_id)
    _detail(element, "Alert Description", printable(alerted.what, _LONGEST_TEXT).encode())


# ---------------------------------------------------------------- events


def application(process: Participant, launcher: Participant, *, started: bool, outcome: EventOutcome) -> AuditMessage:
    """A process of the node has started or stopped (A.5.3.1)."""
    kind = APPLICATION_START if started else APPLICATION_STOP
    return AuditMessage(APPLICATION_ACTIVITY, Action.EXECUTE, [process, launcher], outcome, kind)


def begin_transferring(sender: Participant, receiver: Participant, studies: Sequence[AuditedStudy]) -> AuditMessage:
    """Sending begins (A.5.3.3)."""
    return AuditMessage(BEGIN_TRANSFERRING, Action.EXECUTE, [sender, receiver], objects=studies)


def transferred(
    sender: Participant,
    receiver: Participant,
    studies: Sequence[AuditedStudy],
    *,
    failure: str = "",
    others: Sequence[Participant] = (),
) -> AuditMessage:
    """Instances have arrived, or have not; ``failure`` then says why (A.5.3.7)."""
    outcome = EventOutcome.MINOR_FAILURE if failure else EventOutcome.SUCCESS
    participants = [sender, receiver, *others]
    return AuditMessage(INSTANCES_TRANSFERRED, Action.CREATE, participants, outcome, None, failure, studies)


def accessed(who: Sequence[Participant], studies: Sequence[AuditedStudy], *, failure: str = "") -> AuditMessage:
    """A study was read (A.5.3.6)."""
    outcome = EventOutcome.SERIOUS_FAILURE if failure else EventOutcome.SUCCESS
    return AuditMessage(INSTANCES_ACCESSED, Action.READ, who, outcome, None, failure, studies)


def deleted(who: Sequence[Participant], study: AuditedStudy, why: str) -> AuditMessage:
    """The images of a study were deleted (A.5.3.8)."""
    return AuditMessage(STUDY_DELETED, Action.DELETE, who, EventOutcome.SUCCESS, None, why, [study])


def exported(who: Sequence[Participant], uri: str, studies: Sequence[AuditedStudy]) -> AuditMessage:
    """Objects were written to a folder outside the node (A.5.3.4)."""
    medium = Participant(uri, DESTINATION_MEDIA, media=URI)
    return AuditMessage(EXPORT, Action.READ, [*who, medium], objects=studies)


def imported(who: Sequence[Participant], uri: str, studies: Sequence[AuditedStudy]) -> AuditMessage:
    """Objects were read from a folder outside the node (A.5.3.5)."""
    medium = Participant(uri, SOURCE_MEDIA, media=URI)
    return AuditMessage(IMPORT, Action.CREATE, [*who, medium], objects=studies)


def queried(
    asker: Participant, answerer: Participant, asked: Asked, *, failure: str = "", others: Sequence[Participant] = ()
) -> AuditMessage:
    """A C-FIND was sent (A.5.3.10)."""
    outcome = EventOutcome.MINOR_FAILURE if failure else EventOutcome.SUCCESS
    return AuditMessage(QUERY, Action.EXECUTE, [asker, answerer, *others], outcome, None, failure, [asked])


def refused(caller: Participant, node: Participant, why: str) -> AuditMessage:
    """An association or connection was refused: node authentication failed (A.5.3.11)."""
    about = Alerted(caller.user_id, why)
    participants = [node, caller]
    return AuditMessage(
        SECURITY_ALERT, Action.EXECUTE, participants, EventOutcome.MINOR_FAILURE, NODE_AUTHENTICATION, why, [about]
    )


def function_used(who: Sequence[Participant], node_id: str, what: str, *, outcome: EventOutcome) -> AuditMessage:
    """A person has changed something with a command (A.5.3.11)."""
    return AuditMessage(
        SECURITY_ALERT, Action.EXECUTE, who, outcome, RESTRICTED_FUNCTION, what, [Alerted(node_id, what)]
    )


def host_name() -> str:
    """This machine's name, fit for a syslog header."""
    return "".join(c for c in printable(socket.gethostname(), 255) if "!" <= c <= "~") or "-"
