"""Reading an audit log strictly: RFC 5424 lines, XML by an unforgiving parser, the rules of PS3.15 A.5.1 and A.5.3."""

from __future__ import annotations

import base64
import re
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from dicom_node.audit.spool import files

_SYSLOG = re.compile(
    rb"<85>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]{1,255}) SpineOneNode (\d+) DICOM\+RFC3881 - (<\?xml .*)"
)
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
# For each element: the attributes that it must and may have, and its children in order, as a regular expression.
_CODE = ({"csd-code", "codeSystemName", "originalText"}, {"displayName"}, "")
_RULES: dict[str, tuple[set[str], set[str], str]] = {
    "AuditMessage": (
        set(),
        set(),
        "(EventIdentification )(ActiveParticipant )+(AuditSourceIdentification )(ParticipantObjectIdentification )*",
    ),
    "EventIdentification": (
        {"EventDateTime", "EventOutcomeIndicator"},
        {"EventActionCode"},
        "(EventID )(EventTypeCode )*(EventOutcomeDescription )?",
    ),
    "ActiveParticipant": (
        {"UserID", "UserIsRequestor"},
        {"AlternativeUserID", "UserName", "NetworkAccessPointID", "NetworkAccessPointTypeCode"},
        "(RoleIDCode )*(MediaIdentifier )?",
    ),
    "MediaIdentifier": (set(), set(), "MediaType "),
    "AuditSourceIdentification": ({"AuditSourceID"}, {"AuditEnterpriseSiteID"}, "(AuditSourceTypeCode )*"),
    "AuditSourceTypeCode": ({"csd-code"}, set(), ""),
    "ParticipantObjectIdentification": (
        {"ParticipantObjectID"},
        {"ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole"},
        "(ParticipantObjectIDTypeCode )((ParticipantObjectName )|(ParticipantObjectQuery ))"
        "(ParticipantObjectDetail )*(ParticipantObjectDescription )*",
    ),
    "ParticipantObjectName": (set(), set(), ""),
    "ParticipantObjectQuery": (set(), set(), ""),
    "ParticipantObjectDetail": ({"type", "value"}, set(), ""),
    "ParticipantObjectDescription": (set(), set(), "(SOPClass )*(Anonymized )?"),
    "SOPClass": ({"NumberOfInstances"}, {"UID"}, ""),
    "Anonymized": (set(), set(), ""),
    "EventOutcomeDescription": (set(), set(), ""),
    **dict.fromkeys(("EventID", "EventTypeCode", "RoleIDCode", "MediaType", "ParticipantObjectIDTypeCode"), _CODE),
}
_VALUES = {
    "EventActionCode": set("CRUDE"),
    "EventOutcomeIndicator": {"0", "4", "8", "12"},
    "UserIsRequestor": {"true", "false"},
    "NetworkAccessPointTypeCode": set("12345"),
    "ParticipantObjectTypeCode": set("1234"),
    "ParticipantObjectTypeCodeRole": {str(n) for n in range(1, 27)},
}
# For each event: its action codes, the roles that must take part, and whether it has a type (A.5.3).
_EVENTS = {
    "110100": ("E", {"110150"}, True),
    "110102": ("E", {"110153", "110152"}, False),
    "110103": ("CRUD", set(), False),
    "110104": ("CRU", {"110153", "110152"}, False),
    "110105": ("D", set(), False),
    "110106": ("R", {"110153", "110154"}, False),
    "110107": ("C", {"110152", "110155"}, False),
    "110112": ("E", {"110153", "110152"}, False),
    "110113": ("E", set(), True),
}


def lines(data_dir: Path) -> list[bytes]:
    """Every line of the node's log."""
    return [line for path in files(data_dir / "audit") for line in path.read_bytes().split(b"\n")[:-1]]


def messages(data_dir: Path) -> list[Element]:
    """Every message of the node's log, checked."""
    return [check(line) for line in lines(data_dir)]


def of_event(found: list[Element], code: str) -> list[Element]:
    """The messages with one EventID."""
    return [message for message in found if code_of(message, "EventIdentification/EventID") == code]


def code_of(element: Element, path: str) -> str:
    """The code at a place; empty if there is none."""
    found = element.find(path)
    return "" if found is None else found.attrib["csd-code"]


def roles(message: Element) -> dict[str, str]:
    """Who plays which role: UserID by role."""
    return {code_of(p, "RoleIDCode"): p.attrib["UserID"] for p in message.iter("ActiveParticipant")}


def requestor(message: Element) -> str:
    """Who asked for it."""
    found = [p.attrib["UserID"] for p in message.iter("ActiveParticipant") if p.attrib["UserIsRequestor"] == "true"]
    return found[0] if found else ""


def classes(message: Element) -> dict[str, int]:
    """SOP classes of the message and their counts."""
    return {c.attrib["UID"]: int(c.attrib["NumberOfInstances"]) for c in message.iter("SOPClass")}


def detail(message: Element, kind: str) -> str:
    """A detail, decoded."""
    found = message.find(f".//ParticipantObjectDetail[@type='{kind}']")
    assert found is not None
    return base64.b64decode(found.attrib["value"], validate=True).decode()


def check(line: bytes) -> Element:
    """The message of a line; an assertion fails if the line breaks a rule."""
    found = _SYSLOG.fullmatch(line)
    assert found, line
    assert found[4].isascii()
    message = ElementTree.fromstring(found[4])
    assert message.tag == "AuditMessage"
    _check_element(message)
    _check_event(message)
    return message


def _check_element(element: Element) -> None:
    assert element.tag in _RULES, element.tag
    must, may, children = _RULES[element.tag]
    assert must <= set(element.attrib) <= must | may, (element.tag, element.attrib)
    assert re.fullmatch(children, "".join(f"{child.tag} " for child in element)), (element.tag, list(element))
    for name, value in element.attrib.items():
        assert value, (element.tag, name)
        assert value in _VALUES.get(name, {value}), (name, value)
        if name == "UID":
            assert _OID.fullmatch(value), value
    if element.tag == "ParticipantObjectDetail":
        base64.b64decode(element.attrib["value"], validate=True)
    if element.tag == "ParticipantObjectQuery":
        assert base64.b64decode(element.text or "", validate=True)
    for child in element:
        _check_element(child)


def _check_event(message: Element) -> None:
    event = message[0]
    moment = datetime.fromisoformat(event.attrib["EventDateTime"])
    assert moment.tzinfo is not None
    actions, must, has_type = _EVENTS[code_of(event, "EventID")]
    assert event.attrib["EventActionCode"] in actions
    assert must <= set(roles(message)), roles(message)
    assert bool(code_of(event, "EventTypeCode")) == has_type
    assert sum(p.attrib["UserIsRequestor"] == "true" for p in message.iter("ActiveParticipant")) <= 1
