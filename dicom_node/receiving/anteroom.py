"""Where connections wait until they have asked for an association. One thread hears them all, however many there are."""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dicom_node.receiving.pdus import ABORT, bytes_missing
from dicom_node.system.crowd import Crowd
from dicom_node.system.loops import attempt

# How many connections may be here, and how many bytes of their requests.
MOST_WAITING = 200
_MOST_BYTES = 16_000_000
# How many accepted connections wait to be let in; the rest waits in the kernel's backlog.
_AT_THE_DOOR = 64
_BLOCK = 65536
_LOOK_EVERY_S = 0.5


@dataclass(eq=False)
class Guest:
    """A connection that has not asked for an association yet."""

    connection: Any
    address: Any
    deadline: float
    is_shaking_hands: bool
    request: bytearray = field(default_factory=bytearray)


class Anteroom:
    """Hears connections until each has sent its A-ASSOCIATE-RQ, broken a rule or let its time pass.

    A connection here costs a descriptor and the bytes of its request, but no thread. All reading is without waiting,
    TLS handshakes included. If there is no place, the oldest connection of the address with most of them leaves.

    Parameters
    ----------
    timeout_s
        The time that a connection has, from its first moment to the end of its request (seconds).
    tls
        The TLS context; None for plain connections.
    on_request
        Gets a connection, its address and its request; the connection is the callee's from there on.
    on_failure
        Gets the event, the IP address and the reason of each connection that ended without a request.
    """

    def __init__(
        self,
        timeout_s: float,
        tls: ssl.SSLContext | None,
        on_request: Callable[[Any, Any, bytes], None],
        on_failure: Callable[[str, str, str], None],
    ) -> None:
        self._timeout_s, self._tls = timeout_s, tls
        self._on_request, self._on_failure = on_request, on_failure
        self._guests: Crowd[Guest] = Crowd(MOST_WAITING, MOST_WAITING)
        self._door: queue.Queue[tuple[socket.socket, Any]] = queue.Queue(_AT_THE_DOOR)
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = socket.socketpair()
        for end in (self._bell, self._ring):
            end.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._must_make_room = self._is_closing = False
        self._thread = threading.Thread(target=self._serve, name="anteroom", daemon=True)
        self._thread.start()

    def enter(self, connection: socket.socket, address: Any) -> None:
        """Take a connection in; the accepting thread waits here while too many stand at the door."""
        try:
            self._door.put((connection, address), timeout=self._timeout_s)
        except queue.Full:
            connection.close()
        self._wake()

    def make_room(self) -> None:
        """End one connection, since the process has no descriptor left."""
        self._must_make_room = True
        self._wake()

    def close(self) -> None:
        """End all connections, and the thread."""
        self._is_closing = True
        self._wake()
        self._thread.join(self._timeout_s)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._ring.send(b"\0")

    # ---------------------------------------------------------------- the thread

    def _serve(self) -> None:
        while not self._is_closing:
            attempt(self._hear_once, "anteroom_failed")
        for guest in self._guests:
            self._dismiss(guest)
        self._let_in_all(is_closing=True)
        for end in (self._selector, self._bell, self._ring):
            end.close()

    def _hear_once(self) -> None:
        for key, _ in self._selector.select(_LOOK_EVERY_S):
            if key.data is None:
                self._let_in_all()
            elif key.data in self._guests:
                self._hear(key.data)
        now = time.monotonic()
        for guest in self._guests:
            if guest.deadline > now:
                # All have the same time, so those who came later have more of it.
                break
            self._fail(guest, "TimeoutError")

    def _let_in_all(self, *, is_closing: bool = False) -> None:
        with contextlib.suppress(OSError):
            self._bell.recv(_BLOCK)
        while not self._door.empty():
            connection, address = self._door.get()
            if is_closing:
                connection.close()
            else:
                self._let_in(connection, address)
        first = self._guests.first_to_leave() if self._must_make_room else None
        self._must_make_room = False
        if first is not None:
            self._fail(first, "no descriptor left")

    def _let_in(self, connection: Any, address: Any) -> None:
        connection.setblocking(False)
        guest = Guest(connection, address, time.monotonic() + self._timeout_s, self._tls is not None)
        try:
            if self._tls is not None:
                guest.connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            self._selector.register(guest.connection, selectors.EVENT_READ, guest)
        except (OSError, ValueError):
            connection.close()
            return
        leaves = self._guests.enter(guest, address[0])
        if leaves is not None:
            self._fail(leaves, "its place was needed")

    def _hear(self, guest: Guest) -> None:
        try:
            if guest.is_shaking_hands:
                guest.connection.do_handshake()
                guest.is_shaking_hands = False
            # TLS may hold bytes that the selector does not know of: read on until there are none.
            while missing := bytes_missing(guest.request):
                block = guest.connection.recv(min(_BLOCK, missing))
                if not block:
                    self._fail(guest, "closed")
                    return
                guest.request += block
                largest = self._who_holds_too_much()
                if largest is not None:
                    self._fail(largest, "too much was sent before an association")
                if largest is guest:
                    return
        except ssl.SSLWantWriteError:
            self._selector.modify(guest.connection, selectors.EVENT_WRITE, guest)
        except (ssl.SSLWantReadError, BlockingIOError):
            self._selector.modify(guest.connection, selectors.EVENT_READ, guest)
        except (OSError, ValueError) as error:
            self._fail(guest, str(error) if type(error) is ValueError else type(error).__name__)
        else:
            self._forget(guest)
            self._on_request(guest.connection, guest.address, bytes(guest.request))

    def _who_holds_too_much(self) -> Guest | None:
        """The guest with the longest request, if all requests together have become too long; None if they have not."""
        held = {guest: len(guest.request) for guest in self._guests}
        return max(held, key=held.__getitem__) if sum(held.values()) > _MOST_BYTES else None

    def _fail(self, guest: Guest, why: str) -> None:
        event = "tls_failed" if guest.is_shaking_hands else "no_association"
        self._dismiss(guest)
        self._on_failure(event, str(guest.address[0]), why)

    def _forget(self, guest: Guest) -> None:
        self._guests.leave(guest)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(guest.connection)

    def _dismiss(self, guest: Guest) -> None:
        """End a connection, with an A-ABORT where one can be sent: during a TLS handshake nothing can."""
        self._forget(guest)
        with contextlib.suppress(OSError, ValueError):
            if not guest.is_shaking_hands:
                guest.connection.send(ABORT)
        with contextlib.suppress(OSError):
            socket.socket.shutdown(guest.connection, socket.SHUT_RDWR)
        guest.connection.close()
