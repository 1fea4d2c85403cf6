"""STOW-RS (PS3.18 10.5): storing objects at a server, and reading what it says of each of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dicom_node.dicomweb.multipart_writer import MultipartWriter
from dicom_node.dicomweb.remote import WebRemote
from dicom_node.system.http_session import HttpSession

# Tags of the Store Instances Response Module (PS3.18 I.2) in DICOM JSON.
_FAILED, _REFERENCED = "00081198", "00081199"
_INSTANCE, _FAILURE_REASON, _WARNING_REASON = "00081155", "00081197", "00081196"
# Statuses that come with a response module (PS3.18 10.5.3.1).
ALL_STORED, SOME_STORED, NONE_STORED = 200, 202, 409


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """What a server says to STOW-RS.

    Parameters
    ----------
    status
        The HTTP status.
    stored
        SOP Instance UIDs that it has stored, each with the Warning Reason (0: none).
    failed
        SOP Instance UIDs that it has not stored, each with the Failure Reason (0: none given).
    """

    status: int
    stored: Mapping[str, int]
    failed: Mapping[str, int]


def store(remote: WebRemote, session: HttpSession, body: MultipartWriter) -> StoreAnswer:
    """Store the parts of a body.

    Raises
    ------
    DeliveryError
        If there is no whole answer.
    """
    headers = {"Content-Type": body.content_type, "Accept": "application/dicom+json"}
    response = remote.request(session, "POST", "/studies", body=body, headers=headers)
    module = _module(response.content)
    stored = dict(_references(module, _REFERENCED, _WARNING_REASON))
    return StoreAnswer(response.status_code, stored, dict(_references(module, _FAILED, _FAILURE_REASON)))


def _module(content: bytes) -> Mapping[str, Any]:
    """The response module; empty if the body is none (it may be absent, XML, or a page of HTML)."""
    try:
        module = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if isinstance(module, list) and len(module) == 1:
        (module,) = module
    return module if isinstance(module, dict) else {}


def _references(module: Mapping[str, Any], sequence: str, reason: str) -> Iterator[tuple[str, int]]:
    for item in _values(module, sequence):
        if isinstance(item, dict):
            uids, reasons = _values(item, _INSTANCE), _values(item, reason)
            if uids:
                yield str(uids[0]), reasons[0] if reasons and type(reasons[0]) is int else 0


def _values(module: Mapping[str, Any], tag: str) -> list[Any]:
    element = module.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
