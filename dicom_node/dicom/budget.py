"""How much memory what is being received may take: all of it together, each object, and each peer."""

from __future__ import annotations

import threading
from typing import Any

from dicom_node.settings.sections import ListenerRules


class Budget:
    """Bytes that all associations together may hold for the objects that they receive and for what is made of them.

    One peer (AE title and address) may hold half of it, or one object of the largest size if that is more, so that it leaves
    something to the others. An association that has ended holds nothing.

    Parameters
    ----------
    most
        Bytes for all together.
    most_each
        Bytes for one object.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self.most_each = most_each
        self._most = most
        self._share = max(most // 2, min(most, most_each))
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
            peer = _peer(association)
            if sum(held for a, held in self._held.items() if _peer(a) == peer) + size > self._share:
                return False
            self._held[association] = self._held.get(association, 0) + size
            return True

    def give_back(self, association: Any) -> None:
        """Note that the association no longer holds anything."""
        with self._lock:
            self._held.pop(association, None)


def _peer(association: Any) -> tuple[str, str]:
    other = association.acceptor if association.is_requestor else association.requestor
    return str(other.ae_title), str(other.address)
