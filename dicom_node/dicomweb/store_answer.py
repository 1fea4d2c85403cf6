"""What a STOW-RS request is answered: the Store Instances Response Module (PS3.18 Annex I) in DICOM JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

MEDIA_TYPE = "application/dicom+json"
# Failure Reasons (0008,1197) besides those that are C-STORE statuses too (PS3.18 Annex I).
SYNTAX_NOT_SUPPORTED = 0xC122
CLASS_NOT_SUPPORTED = 0x0122
_RETRIEVE_URL, _FAILED, _REFERENCED, _OTHER = "00081190", "00081198", "00081199", "0008119A"
_CLASS, _INSTANCE, _REASON = "00081150", "00081155", "00081197"


@dataclass(frozen=True, slots=True)
class Told:
    """An instance of a request by its UIDs; both are empty where they are not known."""

    sop_class_uid: str = ""
    sop_instance_uid: str = ""


@dataclass(slots=True)
class StoreAnswer:
    """What became of each part of a request."""

    stored: list[Told] = field(default_factory=list)
    failed: list[tuple[Told, int]] = field(default_factory=list)

    def note(self, told: Told, reason: int) -> None:
        """Note one instance: 0 for one that is stored, a Failure Reason for any other."""
        if reason:
            self.failed.append((told, reason))
        else:
            self.stored.append(told)

    def status(self) -> int:
        """The HTTP status (PS3.18 table 10.5.3-1).

        503 says that the node had no room: the same request may succeed later.
        """
        if not self.failed:
            return 200
        if self.stored:
            return 202
        return 503 if all(reason >> 8 == 0xA7 for _, reason in self.failed) else 409

    def body(self) -> bytes:
        """The module in DICOM JSON (PS3.18 Annex F). Retrieve URL is empty: the node lets nobody retrieve."""
        module: dict[str, Any] = {_RETRIEVE_URL: {"vr": "UR"}}
        named = [_item(told) | _reason(why) for told, why in self.failed if told.sop_instance_uid]
        others = [_reason(why) for told, why in self.failed if not told.sop_instance_uid]
        stored = [_item(told) | {_RETRIEVE_URL: {"vr": "UR"}} for told in self.stored]
        for tag, items in ((_FAILED, named), (_REFERENCED, stored), (_OTHER, others)):
            if items:
                module[tag] = {"vr": "SQ", "Value": items}
        return json.dumps(module, separators=(",", ":")).encode("ascii")


def _item(told: Told) -> dict[str, Any]:
    return {
        _CLASS: {"vr": "UI", "Value": [told.sop_class_uid]},
        _INSTANCE: {"vr": "UI", "Value": [told.sop_instance_uid]},
    }


def _reason(why: int) -> dict[str, Any]:
    return {_REASON: {"vr": "US", "Value": [why]}}
