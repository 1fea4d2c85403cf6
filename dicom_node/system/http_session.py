"""Calling a web server: one origin, no redirection, limits on time and size.

Nothing of the environment counts (proxies, ``.netrc``), and no certificate authority but the settings': ``requests`` by
itself would trust a bundle of its own beside them.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

# An answer is read in blocks of this size (bytes).
_BLOCK = 65536


class AnswerError(requests.RequestException):
    """An answer is too large, takes too long, or is coded in a way that was not asked for."""


class HttpSession(requests.Session):
    """A session with one origin, with limits on each answer.

    Parameters
    ----------
    url
        Where requests go: nothing is sent to another scheme, host or port.
    context
        TLS for ``https``; None for ``http``.
    timeout_s
        For a connection, for the peer to take or give a block of data, and for a whole answer's body (seconds; ten times
        this).
    most_bytes
        The largest answer.
    """

    def __init__(self, url: str, context: ssl.SSLContext | None, *, timeout_s: float, most_bytes: int) -> None:
        super().__init__()
        self.trust_env = False
        self.headers.update({"User-Agent": "SpineOne-Node", "Accept-Encoding": "identity"})
        self._origin = origin_of(url)
        self._timeout_s = timeout_s
        self._most_bytes = most_bytes
        self.adapters.clear()
        self.mount(f"{urlsplit(url).scheme}://", _Adapter(context))

    def send(self, request: requests.PreparedRequest, **named: Any) -> requests.Response:
        """Send a request and read its whole answer.

        Raises
        ------
        requests.RequestException
            If it would go to another origin, there is no answer, or the answer is over a limit (`AnswerError`).
        """
        response = self._open(request, named, self._timeout_s)
        try:
            response._content = b"".join(_blocks(response, self._most_bytes, 10 * self._timeout_s))
        finally:
            response.close()
        return response

    @contextmanager
    def reading(
        self, url: str, headers: Mapping[str, str], *, most_bytes: int, silence_s: float, longest_s: float
    ) -> Iterator[tuple[requests.Response, Iterator[bytes]]]:
        """The answer to a GET, and its body block by block: whoever takes the blocks keeps what he wants of them.

        Parameters
        ----------
        most_bytes
            The largest body.
        silence_s
            How long the peer may send nothing (seconds).
        longest_s
            How long the whole body may take (seconds).

        Raises
        ------
        requests.RequestException
            As `send`; the blocks raise `AnswerError` when they come over a limit or break off.
        """
        request = self.prepare_request(requests.Request("GET", url, headers=dict(headers)))
        response = self._open(request, {}, (self._timeout_s, silence_s))
        try:
            yield response, _blocks(response, most_bytes, longest_s)
        finally:
            response.close()

    def _open(
        self, request: requests.PreparedRequest, named: dict[str, Any], timeout: float | tuple[float, float]
    ) -> requests.Response:
        if origin_of(request.url or "") != self._origin:
            raise requests.exceptions.InvalidURL("a request to another origin is not sent")
        # With a redirection, a token would go to whom the server names, and a POST would become a GET.
        named |= {"allow_redirects": False, "stream": True, "timeout": timeout}
        return super().send(request, **named)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: requests would read the whole body of a redirection to follow it, however large that is."""
        return None


class _Adapter(HTTPAdapter):
    """Connections that trust whom the context trusts, and no one else."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(max_retries=0)

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """The context verifies; requests would add its own bundle of authorities to it."""


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def _blocks(response: requests.Response, most_bytes: int, longest_s: float) -> Iterator[bytes]:
    """The body as it comes, within limits on its size (bytes) and on the time that it takes (seconds)."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise AnswerError("the answer is compressed, which was not asked for")
    size, deadline = 0, time.monotonic() + longest_s
    while block := _next_block(response):
        size += len(block)
        if size > most_bytes:
            raise AnswerError(f"the answer has more than {most_bytes} bytes")
        if time.monotonic() > deadline:
            raise AnswerError("the answer takes too long")
        yield block


def _next_block(response: requests.Response) -> bytes:
    try:
        return bytes(response.raw.read1(_BLOCK, decode_content=False))
    except Exception as error:
        # urllib3's errors are no errors of requests here.
        raise AnswerError(f"the answer breaks off ({type(error).__name__})") from None
