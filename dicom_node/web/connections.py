"""Connections to the web port: each has a deadline in every state, and those that have asked for nothing yet are few."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from dicom_node.system.crowd import Crowd
from dicom_node.system.descriptors import Shortage
from dicom_node.system.log import get_logger

# How long a connection may take to send a request's head, from its first moment or from the last answer, and how long
# an answer may take from the head to the last byte (seconds).
HEAD_WITHIN_S = 10.0
ANSWER_WITHIN_S = 60.0
# How many connections without a finished head there may be, and how many of them from one address.
MOST_WAITING = 100
MOST_WAITING_OF_ONE = 20
# How long a connection is left alone before it counts among them (seconds): the head of one that was in the backlog has
# come already, but asyncio accepts the whole backlog before it reads anything.
_GRACE_S = 0.2
# How often connections without a head are ended because descriptors are short (seconds), and how many: asyncio accepts
# again only after a second.
_MAKE_ROOM_EVERY_S, _MAKE_ROOM_FOR = 0.5, 10


class Lobby:
    """The connections that have not sent a whole head; it belongs to the event loop's thread."""

    def __init__(self, most: int = MOST_WAITING, most_of_one: int = MOST_WAITING_OF_ONE) -> None:
        self._waiting: Crowd[GuardedProtocol] = Crowd(most, most_of_one)
        self._shortage = Shortage()
        self._made_room_at = float("-inf")

    def enter(self, connection: GuardedProtocol, address: str) -> None:
        """Let a connection wait; another one may have to end for it."""
        leaves = self._waiting.enter(connection, address)
        if leaves is not None:
            leaves.end()

    def leave(self, connection: GuardedProtocol) -> None:
        """A connection has sent a head, or is over."""
        self._waiting.leave(connection)

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle what the event loop could not: without a descriptor for new connections, old ones make room.

        asyncio reports that shortage as often as its backlog is long, each second.
        """
        error = context.get("exception")
        if not self._shortage.is_why(error):
            get_logger().error("web_loop_failed", exc_info=error)
            return
        if time.monotonic() - self._made_room_at >= _MAKE_ROOM_EVERY_S:
            self._made_room_at = time.monotonic()
            for _ in range(_MAKE_ROOM_FOR):
                self._end_first()

    def _end_first(self) -> None:
        first = self._waiting.first_to_leave()
        if first is not None:
            first.end()


class GuardedProtocol(H11Protocol):
    """uvicorn's connection with deadlines. A connection is either waiting for a head or answering a request."""

    def __init__(self, *args: Any, lobby: Lobby, answer_within_s: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lobby = lobby
        self._answer_within_s = answer_within_s
        self._timers: list[asyncio.TimerHandle] = []
        # The request that is being answered; None while a head is awaited.
        self._answering: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        super().connection_lost(exc)
        self._lobby.leave(self)
        self._set_timers()

    def handle_events(self) -> None:
        """See `H11Protocol`: data has come, or the next request can be read."""
        super().handle_events()
        self._look()

    def on_response_complete(self) -> None:
        """See `H11Protocol`: an answer was handed over for sending."""
        super().on_response_complete()
        self._look()

    def end(self) -> None:
        """End the connection now, whatever is still to be sent."""
        self._lobby.leave(self)
        self.transport.abort()

    def _look(self) -> None:
        """Set the deadline of the state that the connection is in now, if it is a new one."""
        now = self.cycle if self.cycle is not None and not self.cycle.response_complete else None
        # A closing connection keeps its deadline: its client may be slow to read the last answer.
        if now is self._answering or self.transport.is_closing():
            return
        self._answering = now
        if now is None:
            self._await_head()
        else:
            self._lobby.leave(self)
            self._set_timers(self.loop.call_later(self._answer_within_s or ANSWER_WITHIN_S, self.end))

    def _await_head(self) -> None:
        address = self.client[0] if self.client else ""
        self._set_timers(
            self.loop.call_later(HEAD_WITHIN_S, self.end),
            self.loop.call_later(_GRACE_S, self._lobby.enter, self, address),
        )

    def _set_timers(self, *timers: asyncio.TimerHandle) -> None:
        """These timers take the place of the last ones."""
        for timer in self._timers:
            timer.cancel()
        self._timers = list(timers)
