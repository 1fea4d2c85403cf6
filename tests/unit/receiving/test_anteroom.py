"""Connections that have not asked for an association yet."""

from __future__ import annotations

import fcntl
import queue
import resource
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from dicom_node.receiving import anteroom as module
from dicom_node.receiving.anteroom import Anteroom
from dicom_node.receiving.pdus import ABORT, GuardedSocket, bytes_missing
from tests.fakes import wire
from tests.faults.node import until


class Room:
    """An anteroom, who left it with a request, and who without."""

    def __init__(self, timeout_s: float = 20) -> None:
        self.asked: queue.Queue[tuple[Any, Any, bytes]] = queue.Queue()
        self.failed: list[tuple[str, str, str]] = []
        self.anteroom = Anteroom(timeout_s, None, self._take, lambda *failure: self.failed.append(failure))

    def _take(self, connection: Any, address: Any, request: bytes) -> None:
        self.asked.put((connection, address, request))

    def enter(self, address: str = "10.0.0.1") -> socket.socket:
        """The other end of a connection that has come in."""
        ours, theirs = socket.socketpair()
        self.anteroom.enter(ours, (address, 4242))
        theirs.settimeout(10)
        return theirs


@pytest.fixture
def room() -> Iterator[Room]:
    made = Room()
    yield made
    made.anteroom.close()


def test_request__is_handed_over_whole_and_no_byte_more(room: Room) -> None:
    caller, request = room.enter(), wire.associate()
    for part in (request[:3], request[3:50], request[50:] + b"more"):
        caller.sendall(part)
    connection, address, heard = room.asked.get(timeout=10)
    assert (heard, address) == (request, ("10.0.0.1", 4242))
    assert connection.recv(10) == b"more"
    connection.close()
    caller.close()


def test_requests__have_a_bound_together(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 100_000)
    large = b"\1\0" + (500_000).to_bytes(4, "big")
    callers = [room.enter(f"10.0.0.{number}") for number in range(4)]
    for caller in callers[1:]:
        caller.sendall(large + bytes(10_000))
    callers[0].sendall(large + bytes(90_000))
    assert callers[0].recv(100) == ABORT
    until(lambda: room.failed)
    assert room.failed == [("no_association", "10.0.0.0", "too much was sent before an association")]
    callers[1].sendall(bytes(10_000))
    assert not wire.is_closed(callers[1], 0.2)
    for caller in callers:
        caller.close()


def test_close__ends_all(room: Room) -> None:
    callers = [room.enter() for _ in range(5)]
    room.anteroom.close()
    assert all(wire.is_closed(caller, 5) for caller in callers)


def test_make_room__ends_the_oldest_of_the_address_with_most(room: Room) -> None:
    alone, first, second = room.enter("10.0.0.2"), room.enter(), room.enter()
    until(lambda: len(room.anteroom._guests) == 3)
    room.anteroom.make_room()
    assert wire.is_closed(first, 5)
    assert not wire.is_closed(alone, 0.1)
    assert not wire.is_closed(second, 0.1)


@pytest.mark.parametrize(
    ("request_so_far", "missing"),
    [(b"", 6), (b"\1\0\0", 3), (b"\1\0\0\0\0\5", 5), (b"\1\0\0\0\0\5abc", 2), (b"\1\0\0\0\0\5abcde", 0)],
)
def test_bytes_missing__of_a_request(request_so_far: bytes, missing: int) -> None:
    assert bytes_missing(request_so_far) == missing


@pytest.mark.parametrize("other", [b"G", b"\4\0\0\0\0\5", b"\1\0\xff\xff\xff\xff"])
def test_bytes_missing__of_something_else(other: bytes) -> None:
    with pytest.raises(ValueError, match="not DICOM"):
        bytes_missing(other)


def test_ready__with_a_descriptor_that_select_does_not_know() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip("this system allows no descriptors above 1023")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    ours, theirs = socket.socketpair()
    high = socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, 1500))
    try:
        events: queue.Queue[str] = queue.Queue()
        association: Any = SimpleNamespace(dul=SimpleNamespace(event_queue=events))
        guarded = GuardedSocket(association, client_socket=high)
        events.queue.clear()
        assert not guarded.ready
        theirs.sendall(b"x")
        assert guarded.ready
        high.close()
        assert not guarded.ready
        assert events.get_nowait() == "Evt17"
    finally:
        for end in (ours, theirs, high):
            end.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
