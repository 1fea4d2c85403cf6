"""Who may call, from where, and with how many associations at once."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from typing import Any

from dicom_node.settings.node import NodeSettings

# A look-up may take many seconds, and a stranger who uses a partner's AE title causes one.
_LOOK_UP_AGAIN_S = 30.0


class Peers:
    """Who may call.

    The settings' peers and archives may send images (only this machine may if there are no peers); destinations may
    report what they keep.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self._rules: dict[str, list[Any]] = {}
        self._limits: dict[str, int] = {}
        self._certificates: dict[str, set[str]] = {}
        for peer in settings.peers:
            self._limits[peer.ae_title] = max(peer.max_associations, self._limits.get(peer.ae_title, 0))
            if peer.certificates:
                self._certificates.setdefault(peer.ae_title, set()).update(peer.certificates)
            networks = [ipaddress.ip_network(text, strict=False) for text in peer.addresses]
            everywhere = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
            self._rules.setdefault(peer.ae_title, []).extend(networks or everywhere)
        self._hosts = Hosts()
        self._archives = [(archive.ae_title, archive.host) for archive in settings.archive_entities]
        self._destinations = [(destination.ae_title, destination.host) for destination in settings.application_entities]

    def most_associations(self, ae_title: str) -> int:
        """How many associations a peer with this AE title may have; 0 if it has no limit of its own.

        If several tables have the same title, the largest limit counts.
        """
        return self._limits.get(ae_title, 0)

    def knows_title(self, ae_title: str) -> bool:
        """Whether anyone may use this AE title (any title is accepted if no peers are set)."""
        others = {title for title, _ in (*self._archives, *self._destinations)}
        return not self._rules or ae_title in self._rules or ae_title in others

    def allows(self, ae_title: str, address: str) -> bool:
        """Whether a caller with this AE title may come from this address."""
        return self.may_send(ae_title, address) or self._is_one_of(self._destinations, ae_title, address)

    def shows_certificate_of(self, ae_title: str, certificate: str) -> bool:
        """Whether a caller's certificate (its SHA-256, empty for none) goes with this AE title.

        A title that is bound to no certificate goes with any. If several tables have the same title, those of all of
        them count, for archives and destinations of that title too.
        """
        bound = self._certificates.get(ae_title)
        return bound is None or certificate in bound

    def may_send(self, ae_title: str, address: str) -> bool:
        """Whether the caller may send images and ask for them to be kept."""
        ip = _ip(address)
        if not self._rules and ip.is_loopback:
            return True
        rules = self._rules.get(ae_title, [])
        return any(ip in network for network in rules) or self._is_one_of(self._archives, ae_title, address)

    def _is_one_of(self, partners: list[tuple[str, str]], ae_title: str, address: str) -> bool:
        """Whether the address belongs to a partner with this title."""
        return any(title == ae_title and _ip(address) in self._hosts.addresses_of(host) for title, host in partners)


class Hosts:
    """The addresses of the settings' hosts. A name is looked up again only after a while, whoever calls how often.

    While one thread looks a name up again, and after a look-up that failed, the addresses from before count.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, set[Any]]] = {}
        self._lock = threading.Lock()

    def addresses_of(self, host: str) -> set[Any]:
        """The addresses of a host; empty if it has none."""
        is_fresh, known = self._seen(host)
        if is_fresh or not self._lock.acquire(blocking=not known):
            return known
        try:
            is_fresh, known = self._seen(host)
            if not is_fresh:
                known = _look_up(host) or known
                self._known[host] = time.monotonic(), known
            return known
        finally:
            self._lock.release()

    def _seen(self, host: str) -> tuple[bool, set[Any]]:
        looked_at, known = self._known.get(host, (float("-inf"), set()))
        return time.monotonic() - looked_at < _LOOK_UP_AGAIN_S, known


def _look_up(host: str) -> set[Any]:
    try:
        return {_ip(str(found[4][0])) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def _ip(address: str) -> Any:
    ip = ipaddress.ip_address(address.split("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip
