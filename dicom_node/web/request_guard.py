"""Which requests are answered: those with one meaning, under a name of the node, and as many at once as there are places."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections import Counter
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

HEALTH, READINESS = "/healthz", "/readyz"
# What machines ask for, under whatever name they know the node by. It holds no pseudonyms.
FOR_MACHINES = (HEALTH, READINESS, "/metrics")
MOST_REQUESTS = 50
_LOOPBACK = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(:\d{1,5})?", re.IGNORECASE)


class RequestGuard:
    """Answers what the application must not see.

    A request with both Content-Length and Transfer-Encoding is answered once and its connection closed, since others on
    the way may see its end elsewhere (RFC 9112 6.3). A page is shown only under a name of the node: a web page from
    elsewhere can make its own name point at the node's address (DNS rebinding), but cannot make a browser send another
    name (421, RFC 9110 7.4). More requests than there are places get 503; `/healthz` needs no place, and `/readyz` has
    places of its own.

    Parameters
    ----------
    app
        Answers all other requests.
    names
        Names of the node besides its addresses, the loopback names and the machine's own name.
    most
        How many requests are answered at once, and how many for readiness.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], most: int = MOST_REQUESTS) -> None:
        self._app = app
        self._names = {*names, *own_names()}
        self._most = most
        self._running: Counter[bool] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._refusal(scope)
        if answer is not None:
            await answer(scope, receive, send)
            return
        kind = scope["path"] == READINESS
        self._running[kind] += scope["path"] != HEALTH
        try:
            await self._app(scope, receive, send)
        finally:
            self._running[kind] -= scope["path"] != HEALTH

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            text = "a request has Content-Length or Transfer-Encoding, not both"
            return PlainTextResponse(f"{text}\n", 400, {"Connection": "close"})
        if scope["path"] not in FOR_MACHINES:
            name = name_of(headers.get("host", ""))
            if name is None:
                return PlainTextResponse("the Host header is missing or is no host name\n", 400)
            if not self._is_ours(name):
                text = "this is not a name of the node; to use it, add it to hosts in [web] of node.toml"
                return PlainTextResponse(f"{text}\n", 421)
        if scope["path"] != HEALTH and self._running[scope["path"] == READINESS] >= self._most:
            return PlainTextResponse("too many requests at once\n", 503)
        return None

    def _is_ours(self, name: str) -> bool:
        return name in self._names or name.endswith(".localhost") or _is_address(name)


def own_names() -> set[str]:
    """The loopback names and the machine's own name, with and without its domain."""
    own = socket.gethostname().lower().rstrip(".")
    return {*_LOOPBACK, own, own.partition(".")[0]}


def name_of(host: str) -> str | None:
    """The name or address in a Host header (RFC 9110 7.2), in small letters and without port; None if there is none."""
    match = _HOST.fullmatch(host.strip())
    return None if match is None else match["name"].lower().strip("[]").rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
