"""Limits on what a peer may make us hold in memory, for each message and for all together.

They apply to associations in both directions.
"""

from __future__ import annotations

import threading
from typing import Any

from pynetdicom.dimse import DIMSEServiceProvider

from dicom_node.settings.sections import ListenerRules
from dicom_node.system.log import get_logger

# A command set is a few hundred bytes.
_COMMAND_CAP = 65536


class Budget:
    """How many bytes of objects all associations together may hold while they are being received."""

    def __init__(self, most: int, most_each: int) -> None:
        self.most_each = most_each
        self._most = most
        self._lock = threading.Lock()
        self._held: dict[Any, int] = {}

    @staticmethod
    def of(rules: ListenerRules) -> Budget:
        """The budget that the settings allow."""
        return Budget(rules.max_memory_mb * 1_000_000, rules.max_object_mb * 1_000_000)

    def take(self, association: Any, size: int) -> bool:
        """Take ``size`` more bytes for an association; False if they are not available."""
        with self._lock:
            self._held = {a: held for a, held in self._held.items() if a is association or a.is_alive()}
            if sum(self._held.values()) + size > self._most:
                return False
            self._held[association] = self._held.get(association, 0) + size
            return True

    def give_back(self, association: Any) -> None:
        """Note that the association no longer holds anything."""
        with self._lock:
            self._held.pop(association, None)


class BoundedDimse(DIMSEServiceProvider):
    """Puts the fragments of a message together, within bounds.

    Once an object is over its limit, the rest of it is read and discarded, so that its sender can be told: 0xA700
    (PS3.4 B.2.3).
    """

    # How many requests a peer may make before the first is answered. None sets no limit: responses to our own requests
    # may come as fast as they like.
    most_waiting: int | None = None

    def __init__(self, association: Any, budget: Budget) -> None:
        super().__init__(association)
        self._budget = budget
        self._size = 0
        self._is_over = False
        # The message IDs of the objects that were not kept.
        self._too_large: set[int] = set()
        self.is_storing = False

    @property
    def is_busy(self) -> bool:
        """Whether a request is being received, is waiting or is being answered."""
        return self.message is not None or self.is_storing or not self.msg_queue.empty()

    def was_too_large(self, message_id: int) -> bool:
        """Whether the object of a C-STORE request was not kept. Each can be asked about only once."""
        was = message_id in self._too_large
        self._too_large.discard(message_id)
        return was

    def receive_primitive(self, primitive: Any) -> None:
        """Take the next fragments, one by one, since some senders put command and data into one PDU.

        See `DIMSEServiceProvider`.
        """
        fragments = primitive.presentation_data_value_list
        if self._is_hostile(fragments):
            self._cut()
            return
        try:
            for context, data in fragments:
                primitive.presentation_data_value_list = [[context, self._within_bounds(data)]]
                super().receive_primitive(primitive)
        except Exception:  # pynetdicom raises many types on a command set that is invalid
            self._cut()

    def _within_bounds(self, data: bytes) -> bytes:
        """The fragment, or only its header if it belongs to an object that is over a limit.

        That the object is too large is noted before the last fragment completes the message: from then on another
        thread serves it.
        """
        if self.message is None:
            self._size, self._is_over = 0, False
            if not self.is_busy:
                self._budget.give_back(self.assoc)
        self._count(len(data))
        # The lowest bit of the header marks a fragment of the command (PS3.8 E.2).
        if not self._is_over or self.message is None or data[0] & 1:
            return data
        self.message.data_set.seek(0)
        self.message.data_set.truncate()
        if "MessageID" in self.message.command_set:
            self._too_large.add(int(self.message.command_set.MessageID))
        return data[:1]

    def _is_hostile(self, fragments: Any) -> bool:
        if any(not data for _, data in fragments) or self._has_too_many_waiting():
            return True
        command = sum(len(data) for _, data in fragments if data[0] & 1)
        begun = self.message.encoded_command_set.tell() if self.message is not None else 0
        return bool(command and command + begun > _COMMAND_CAP)

    def _cut(self) -> None:
        """End the association with an A-ABORT by the provider, as for an unrecognised PDU (PS3.8 9.2, AA-8)."""
        peer = self.assoc.acceptor if self.assoc.is_requestor else self.assoc.requestor
        get_logger().warning("association_cut", address=peer.address, why="no proper messages")
        self.dul.event_queue.put("Evt19")

    def _has_too_many_waiting(self) -> bool:
        return self.most_waiting is not None and self.msg_queue.qsize() > self.most_waiting

    def _count(self, size: int) -> None:
        self._size += size
        if self._is_over or self._size > self._budget.most_each or not self._budget.take(self.assoc, size):
            self._is_over = True
