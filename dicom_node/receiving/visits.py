"""Requests by STOW-RS, each of which counts like an association: who may make one, and how many at once."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from dicom_node.images.store import InstanceStore
from dicom_node.receiving.admission import Admission
from dicom_node.receiving.peers import Peers
from dicom_node.receiving.refusals import Refusal
from dicom_node.receiving.server import Caller
from dicom_node.receiving.tokens import Tokens
from dicom_node.settings.node import NodeSettings

# Stands for the AE title of one whose token is nobody's, in the log and in alerts.
NOBODY = "(no token)"


@dataclass(frozen=True, slots=True)
class Requestor:
    """Who makes a request: the AE title that the token stands for, and the IP address."""

    ae_title: str
    address: str


@dataclass(eq=False)
class Visit:
    """One request. Memory and audit log know it as they know an association."""

    requestor: Requestor
    is_over: bool = False
    is_requestor: bool = False

    def is_alive(self) -> bool:
        """Whether the request goes on."""
        return not self.is_over


class Door:
    """Lets requests in.

    Parameters
    ----------
    settings
        The settings of the whole node.
    tokens, peers
        Know who may store.
    store
        Knows whether there is room for images.
    admission
        Is told who was refused.
    """

    def __init__(
        self, settings: NodeSettings, tokens: Tokens, peers: Peers, store: InstanceStore, admission: Admission
    ) -> None:
        self._called = settings.listener.ae_title
        self._most = settings.dicomweb.max_requests
        self._tokens, self._peers, self._store, self._admission = tokens, peers, store, admission
        self._lock = threading.Lock()
        self._visits: set[Visit] = set()

    def enter(self, token: str, address: str) -> Visit | Refusal:
        """Begin a request with a token (empty for none) from an address."""
        peer = self._tokens.peer_of(token)
        caller = Caller(peer or NOBODY, self._called, address)
        judged = self._judge(peer, address)
        if isinstance(judged, Refusal):
            self._admission.refused(caller, judged)
        else:
            self._admission.admitted(caller)
        return judged

    def visits(self) -> int:
        """How many requests are being served."""
        with self._lock:
            return len(self._visits)

    def leave(self, visit: Visit) -> None:
        """A request is over."""
        visit.is_over = True
        with self._lock:
            self._visits.discard(visit)

    def _judge(self, peer: str | None, address: str) -> Visit | Refusal:
        if peer is None:
            return Refusal.TOKEN
        if not self._peers.may_send(peer, address):
            return Refusal.ADDRESS
        if not self._store.has_room():
            return Refusal.DISK_RESERVE
        with self._lock:
            if len(self._visits) >= self._most:
                return Refusal.TOO_MANY
            most_of_peer = self._peers.most_associations(peer)
            if most_of_peer and sum(visit.requestor.ae_title == peer for visit in self._visits) >= most_of_peer:
                return Refusal.TOO_MANY_OF_PEER
            visit = Visit(Requestor(peer, address))
            self._visits.add(visit)
        return visit
