"""Limits on what a peer may make us hold in memory, for each message and for all together.

They apply to associations in both directions.
"""

from __future__ import annotations

import threading
from typing import Any

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_FIND_RSP, C_GET_RSP, C_MOVE_RSP

from dicom_node.dicom.budget import Budget
from dicom_node.dicom.headers import NoRoomError
from dicom_node.system.log import get_logger

# A command set is a few hundred bytes. pynetdicom parses it, and identifiers, before anybody can look at them: so many bytes
# make some ten megabytes at worst.
_COMMAND_CAP = 65536
_IDENTIFIER_CAP = 262144
# A P-DATA-TF holds one fragment or two; each costs far more than its bytes.
_MOST_FRAGMENTS = 256


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
        # The context of the message that is being received (PS3.8 E.2: a message has one).
        self._context: int | None = None
        # The message IDs of the objects that were not kept.
        self._too_large: set[int] = set()
        self.is_storing = False
        # Held while a fragment is counted, so that what one thread receives is not given back by the other one.
        self._counting = threading.Lock()

    @property
    def is_busy(self) -> bool:
        """Whether a request is being received, is waiting or is being answered."""
        return self._context is not None or self.is_storing or not self.msg_queue.empty()

    def was_too_large(self, message_id: int) -> bool:
        """Whether the object of a C-STORE request was not kept. Each can be asked about only once."""
        was = message_id in self._too_large
        self._too_large.discard(message_id)
        return was

    def hold(self, size: int) -> None:
        """Take ``size`` bytes of the budget for work on what was received, until that is done.

        Raises
        ------
        NoRoomError
            If they are not available.
        """
        if not self._budget.take(self.assoc, size):
            raise NoRoomError("more memory than is left")

    def done(self) -> None:
        """What was received is dealt with: nothing of it is held any longer, unless more is there already."""
        with self._counting:
            self.is_storing = False
            if not self.is_busy:
                self._budget.give_back(self.assoc)

    def receive_primitive(self, primitive: Any) -> None:
        """Take the next fragments, one by one, since some senders put command and data into one PDU.

        See `DIMSEServiceProvider`.
        """
        fragments = primitive.presentation_data_value_list
        if self._is_hostile(fragments):
            self._cut("no proper messages")
            return
        try:
            for context, data in fragments:
                if not self._belongs(context):
                    self._cut("fragments of two contexts in one message")
                    return
                primitive.presentation_data_value_list = [[context, self._within_bounds(context, data)]]
                super().receive_primitive(primitive)
                if self.message is None:
                    self._context = None
        except Exception:  # pynetdicom raises many types on a command set that is invalid
            self._cut("no proper messages")

    def _belongs(self, context: int) -> bool:
        return self._context in (None, context)

    def _within_bounds(self, context: int, data: bytes) -> bytes:
        """The fragment, or only its header if it belongs to an object that is over a limit.

        That the object is too large is noted before the last fragment completes the message: from then on another
        thread serves it.
        """
        with self._counting:
            if self.message is None:
                self._size, self._is_over = 0, False
                if not self.is_busy:
                    self._budget.give_back(self.assoc)
                self._context = context
            self._count(len(data))
        # The lowest bit of the header marks a fragment of the command (PS3.8 E.2).
        if not self._is_over or self.message is None or data[0] & 1:
            return data
        if isinstance(self.message, C_FIND_RSP):
            # Without its identifier it would be a match that says nothing.
            raise ValueError("a match is too large")
        self.message.data_set.seek(0)
        self.message.data_set.truncate()
        if "MessageID" in self.message.command_set:
            self._too_large.add(int(self.message.command_set.MessageID))
        return data[:1]

    def _is_hostile(self, fragments: Any) -> bool:
        if any(not data for _, data in fragments) or self._has_too_many_waiting() or len(fragments) > _MOST_FRAGMENTS:
            return True
        command = sum(len(data) for _, data in fragments if data[0] & 1)
        begun = self.message.encoded_command_set.tell() if self.message is not None else 0
        return bool(command and command + begun > _COMMAND_CAP)

    def _cut(self, why: str) -> None:
        """End the association with an A-ABORT by the provider, as for an unrecognised PDU (PS3.8 9.2, AA-8)."""
        peer = self.assoc.acceptor if self.assoc.is_requestor else self.assoc.requestor
        get_logger().warning("association_cut", address=peer.address, why=why)
        self.dul.event_queue.put("Evt19")

    def _has_too_many_waiting(self) -> bool:
        return self.most_waiting is not None and self.msg_queue.qsize() > self.most_waiting

    def _count(self, size: int) -> None:
        self._size += size
        is_answer = isinstance(self.message, C_FIND_RSP | C_GET_RSP | C_MOVE_RSP)
        most = min(self._budget.most_each, _IDENTIFIER_CAP) if is_answer else self._budget.most_each
        if self._is_over or self._size > most or not self._budget.take(self.assoc, size):
            self._is_over = True
