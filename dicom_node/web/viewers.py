"""Who saw on the status page whose studies these are: one audit message for an address and the studies that are new to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from dicom_node.audit.log import AuditLog
from dicom_node.audit.message import Participant
from dicom_node.audit.people import looked_at
from dicom_node.database.connection import Database
from dicom_node.settings.node import NodeSettings

# The page renews itself: what an address has seen is told again after this time only (seconds).
TOLD_FOR_S = 3600.0
_MOST_ADDRESSES = 1000


class Viewers:
    """Remembers what each address was shown. The page has no login: behind a proxy, the address is the proxy's."""

    def __init__(self, settings: NodeSettings, database: Database) -> None:
        self._audit = AuditLog(settings)
        self._database = database
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, set[str]]] = {}

    def note(self, address: str, study_uids: Sequence[str]) -> None:
        """Record that an address was shown these studies with Patient ID or Accession Number."""
        if not study_uids:
            return
        with self._lock:
            since, seen = self._seen.get(address, (time.monotonic(), set()))
            if time.monotonic() - since > TOLD_FOR_S or len(self._seen) > _MOST_ADDRESSES:
                self._seen.clear()
                since, seen = time.monotonic(), set()
            new = [uid for uid in study_uids if uid not in seen]
            self._seen[address] = since, seen | set(new)
        looked_at(self._audit, self._database, Participant(address, is_requestor=True, address=address), new)
