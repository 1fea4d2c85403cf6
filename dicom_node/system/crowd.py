"""Connections of strangers who have not said yet what they want: how many may wait, and who leaves for a new one."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Member = TypeVar("Member", bound=Hashable)
# The part of an IPv6 address that one customer has for himself (RFC 6177): whoever holds one, holds 2**64 addresses.
_IPV6_NETWORK_BITS = 64


class Crowd(Generic[Member]):
    """Those who wait, the oldest first. It belongs to one thread.

    Whoever needs a place gets one: the oldest of those who take most of the places leaves for him. A flood from one
    address therefore pushes itself out, and nobody else.

    Parameters
    ----------
    most
        How many may wait.
    most_of_one
        How many of them may come from one address (of IPv6, from one network of 64 bits).
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._members: dict[Member, str] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members))

    def enter(self, member: Member, address: str) -> Member | None:
        """Let one in. Returns who had to leave for him; the caller ends that connection."""
        origin = origin_of(address)
        leaves = self._who_leaves(origin)
        if leaves is not None:
            self.leave(leaves)
        self._members[member] = origin
        self._counts[origin] += 1
        return leaves

    def leave(self, member: Member) -> None:
        """Take one out; does nothing if he is not there."""
        origin = self._members.pop(member, None)
        if origin is not None:
            self._counts[origin] -= 1
            if not self._counts[origin]:
                del self._counts[origin]

    def first_to_leave(self) -> Member | None:
        """The oldest of those who take most of the places; None if nobody waits."""
        if not self._members:
            return None
        (largest, _), *_ = self._counts.most_common(1)
        return self._oldest_of(largest)

    def _who_leaves(self, origin: str) -> Member | None:
        if self._counts[origin] >= self._most_of_one:
            return self._oldest_of(origin)
        return self.first_to_leave() if len(self._members) >= self._most else None

    def _oldest_of(self, origin: str) -> Member:
        return next(member for member, place in self._members.items() if place == origin)


def origin_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or the network of 64 bits of an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return address
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.version == 4:
        return str(ip)
    return str(ipaddress.ip_network((ip, _IPV6_NETWORK_BITS), strict=False))
