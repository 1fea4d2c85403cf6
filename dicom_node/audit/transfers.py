"""What the audit log says about associations: what each one brought, and who was refused."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.dsutils import encode

from dicom_node.audit import message as audit_message
from dicom_node.audit.log import AuditLog
from dicom_node.audit.message import DESTINATION, SOURCE, Asked, Participant
from dicom_node.database.connection import Database
from dicom_node.dicom.query import FIND
from dicom_node.settings.sections import Partner
from dicom_node.settings.web_destinations import WebServer

# A repeated refusal is reported at most once in this time (seconds), with the number of its repeats: a hostile peer
# must not flood the log.
_REFUSAL_EVERY_S = 60.0
_MOST_REFUSALS_KNOWN = 10_000
# What an open association has brought is reported once nothing has come for this long (seconds).
_QUIET_S = 60.0
# Query keys whose values say nothing about a patient. Neither do UIDs.
_PLAIN_KEYS = ("QueryRetrieveLevel", "Modality", "ModalitiesInStudy")


class Transfer:
    """What one association carries, in either direction; it becomes one message for each study and outcome."""

    def __init__(self, audit: AuditLog, database: Database, sender: Participant, receiver: Participant) -> None:
        self._audit = audit
        self._database = database
        self._ends = sender, receiver
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], Counter[str]] = {}
        self._last = time.monotonic()

    def note(self, study_uid: str, sop_class_uid: str, failure: str = "") -> None:
        """Note an object that was taken, or one that was not, with the reason; an unknown study is empty."""
        with self._lock:
            self._seen.setdefault((study_uid, failure), Counter())[sop_class_uid] += 1
            self._last = time.monotonic()

    def is_quiet(self) -> bool:
        """Whether nothing has come for some time."""
        return time.monotonic() - self._last > _QUIET_S

    def report(self) -> None:
        """Write what has come since the last report."""
        with self._lock:
            seen, self._seen = self._seen, {}
        for (study_uid, failure), classes in seen.items():
            study = self._audit.study(self._database, study_uid, classes)
            self._audit.record(audit_message.transferred(*self._ends, [study], failure=failure))


class Receiving:
    """The listener's part of the audit log."""

    def __init__(self, audit: AuditLog, database: Database) -> None:
        self._audit = audit
        self._database = database
        self._lock = threading.Lock()
        self._transfers: dict[Any, Transfer] = {}
        # When a refusal was last reported, and how many have come since.
        self._refusals: dict[tuple[str, str], tuple[float, int]] = {}

    def refused(self, calling_ae: str, address: str, why: str, times: int = 1) -> None:
        """Associations were refused because of who asked for them, or TLS failed (then there is no AE title).

        A caller who changes his AE title each time is one caller: the message names the last title.
        """
        key, now = (address, why), time.monotonic()
        with self._lock:
            last, more = self._refusals.get(key, (float("-inf"), 0))
            is_due = now - last >= _REFUSAL_EVERY_S
            if len(self._refusals) >= _MOST_REFUSALS_KNOWN:
                self._refusals.clear()
            self._refusals[key] = (now, 0) if is_due else (last, more + times)
        if not is_due:
            return
        more += times - 1
        text = f"{why} ({more} more since the last message)" if more else why
        caller = Participant(calling_ae or address, is_requestor=True, address=address)
        self._audit.record(audit_message.refused(caller, self._audit.node(), text))

    def stored(self, association: Any, calling_ae: str, study_uid: str, sop_class_uid: str, status: int) -> None:
        """An object of an association was answered with this C-STORE status."""
        with self._lock:
            transfer = self._transfers.get(association)
            if transfer is None:
                address = association.requestor.address
                sender = Participant(calling_ae, SOURCE, is_requestor=True, address=address)
                transfer = Transfer(self._audit, self._database, sender, self._audit.node(DESTINATION))
                self._transfers[association] = transfer
        transfer.note(study_uid, sop_class_uid, f"refused with status 0x{status:04X}" if status else "")

    def ended(self, association: Any) -> None:
        """The association is over."""
        with self._lock:
            transfer = self._transfers.pop(association, None)
        if transfer is not None:
            transfer.report()

    def report_quiet(self) -> None:
        """Report what open associations have brought; forget those whose sender left before it had the answer."""
        with self._lock:
            quiet = [transfer for transfer in self._transfers.values() if transfer.is_quiet()]
            gone = [association for association in self._transfers if not association.is_alive()]
        for transfer in quiet:
            transfer.report()
        for association in gone:
            self.ended(association)

    def report_all(self) -> None:
        """The listener stops."""
        with self._lock:
            associations = list(self._transfers)
        for association in associations:
            self.ended(association)


def audit_query(
    audit: AuditLog, partner: Partner | WebServer, query: Dataset, others: Sequence[Participant] = ()
) -> None:
    """Record a C-FIND to a partner, or a search by HTTP for the same.

    Values that may identify a patient are written only if the settings say so.
    """
    shown = Dataset()
    for element in query:
        is_plain = audit.rules.patient or element.VR == "UI" or element.keyword in _PLAIN_KEYS
        shown.add_new(element.tag, element.VR, element.value if is_plain else None)
    asked = Asked(FIND, encode(shown, True, True) or b"", ImplicitVRLittleEndian)
    us = audit.node(SOURCE, is_requestor=not others)
    them = Participant(partner.title, DESTINATION, address=partner.host)
    audit.record(audit_message.queried(us, them, asked, others=others))
