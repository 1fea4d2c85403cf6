"""Many broken messages, from several connections at once, and what became of each."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.fakes import wire
from tests.faults.mutants import CONTEXTS, Mutant

# What can become of a message: answered, accepted, released, rejected, aborted, closed; "cut" where the connection was
# reset; "waited" where the listener waited for more and took the end of the connection for the end; "hung" where it did
# not.
HUNG = "hung"
_PEERS = 16
_ANSWER_WITHIN_S = 0.6
_END_WITHIN_S = 20.0
# More messages on one association would hide what a fresh one does.
_MOST_ON_ONE_ASSOCIATION = 50
_BUSY = b"\x02\x03\x02"


class Barrage:
    """Sends messages to a port; `outcomes` counts (kind, what became of it).

    Parameters
    ----------
    make
        Makes the message with a given number.
    kept
        Folder for messages after which something was wrong.
    """

    def __init__(self, port: int, make: Callable[[int], Mutant], count: int, kept: Path) -> None:
        self._port, self._make, self._count, self._kept = port, make, count, kept
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._in_flight: dict[int, Mutant] = {}
        self.outcomes: Counter[tuple[str, str]] = Counter()
        # Associations refused because there were too many; tried again.
        self.busy = 0
        # Mutated images that were answered with success.
        self.acknowledged: list[Mutant] = []
        self._threads = [threading.Thread(target=self._peer, daemon=True) for _ in range(_PEERS)]
        self._stop = threading.Event()

    @property
    def sent(self) -> int:
        """How many messages have an outcome."""
        with self._lock:
            return self.outcomes.total()

    def start(self) -> None:
        """Send from now on."""
        for thread in self._threads:
            thread.start()

    def is_over(self) -> bool:
        """Whether all were sent."""
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def keep_in_flight(self, why: str) -> None:
        """Keep the messages that are on their way: one of them may have ended a process."""
        with self._lock:
            suspects = list(self._in_flight.values())
        for mutant in suspects:
            self._keep(mutant, why)

    def _keep(self, mutant: Mutant, why: str) -> None:
        self._kept.mkdir(parents=True, exist_ok=True)
        kind = "".join(c if c.isalnum() else "-" for c in mutant.kind)
        (self._kept / f"{mutant.number:06d}-{kind}-{why}.bin").write_bytes(mutant.message)

    # ------------------------------------------------------------ one connection

    def _peer(self) -> None:
        connection: socket.socket | None = None
        while not self._stop.is_set() and (number := next(self._numbers)) < self._count:
            mutant = self._make(number)
            with self._lock:
                self._in_flight[threading.get_ident()] = mutant
            if connection is None and mutant.needs_association:
                connection = self._associated()
            connection = self._send(connection, mutant)
            if connection is not None and number % _MOST_ON_ONE_ASSOCIATION == 0:
                connection = _leave(connection)
        if connection is not None:
            _leave(connection)
        with self._lock:
            self._in_flight.pop(threading.get_ident(), None)

    def _send(self, connection: socket.socket | None, mutant: Mutant) -> socket.socket | None:
        """Send one message; returns the connection if it can be used again."""
        used = connection if mutant.needs_association else None
        try:
            used = used or wire.connect(self._port)
            used.sendall(mutant.message)
            outcome, pdu = _await_answer(used)
        except OSError:
            outcome, pdu = "cut", b""
        self._note(mutant, outcome, pdu)
        if mutant.needs_association and outcome == "answered":
            return used
        if used is not None:
            _leave(used)
        return None if mutant.needs_association else connection

    def _note(self, mutant: Mutant, outcome: str, pdu: bytes) -> None:
        with self._lock:
            self.outcomes[mutant.kind, outcome] += 1
            if mutant.uid and wire.status_of(pdu) == 0:
                self.acknowledged.append(mutant)
        if outcome == HUNG:
            self._keep(mutant, HUNG)

    def _associated(self) -> socket.socket | None:
        """An association of this peer; None when it is stopped."""
        while not self._stop.is_set():
            try:
                connection = wire.connect(self._port)
                connection.sendall(wire.associate(contexts=CONTEXTS))
                pdu = wire.next_pdu(connection)
                if wire.kind(pdu) == "accepted":
                    return connection
                connection.close()
                with self._lock:
                    self.busy += pdu[7:10] == _BUSY
            except OSError:
                pass
            time.sleep(0.05)
        return None


def _await_answer(connection: socket.socket) -> tuple[str, bytes]:
    """What comes back. If nothing does, we end the connection on our side, and the listener must end it too."""
    connection.settimeout(_ANSWER_WITHIN_S)
    try:
        pdu = wire.next_pdu(connection)
        return wire.kind(pdu), pdu
    except TimeoutError:
        pass
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(_END_WITHIN_S)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return HUNG, b""
    return "waited", b""


def _leave(connection: socket.socket) -> None:
    """Abort like a peer that has seen enough."""
    with suppress(OSError):
        connection.sendall(wire.ABORT)
    connection.close()
