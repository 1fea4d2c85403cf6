"""Who may call, from where, and with how many associations at once."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from dicom_node.settings.node import NodeSettings


class Peers:
    """Who may call.

    The settings' peers and archives may send images (only this machine may if there are no peers); destinations may
    report what they keep.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self._rules: dict[str, list[Any]] = {}
        self._limits: dict[str, int] = {}
        for peer in settings.peers:
            self._limits[peer.ae_title] = max(peer.max_associations, self._limits.get(peer.ae_title, 0))
            networks = [ipaddress.ip_network(text, strict=False) for text in peer.addresses]
            everywhere = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
            self._rules.setdefault(peer.ae_title, []).extend(networks or everywhere)
        self._archives = [(archive.ae_title, archive.host) for archive in settings.archives]
        self._destinations = [(destination.ae_title, destination.host) for destination in settings.destinations]

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
        return self.may_send(ae_title, address) or _is_one_of(self._destinations, ae_title, address)

    def may_send(self, ae_title: str, address: str) -> bool:
        """Whether the caller may send images and ask for them to be kept."""
        ip = _ip(address)
        if not self._rules and ip.is_loopback:
            return True
        rules = self._rules.get(ae_title, [])
        return any(ip in network for network in rules) or _is_one_of(self._archives, ae_title, address)


def _is_one_of(partners: list[tuple[str, str]], ae_title: str, address: str) -> bool:
    """Whether the address belongs to a partner with this title."""
    return any(title == ae_title and _ip(address) in _addresses_of(host) for title, host in partners)


def _addresses_of(host: str) -> set[Any]:
    try:
        return {_ip(str(found[4][0])) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def _ip(address: str) -> Any:
    ip = ipaddress.ip_address(address.split("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip
