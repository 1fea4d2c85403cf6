"""Calling a web server: one origin, no redirection, limits on time and size.

Nothing of the environment counts (proxies, ``.netrc``), and no certificate authority but the settings': ``requests`` by
itself would trust a bundle of its own beside them.
"""

from __future__ import annotations

import ssl
import time
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
        if origin_of(request.url or "") != self._origin:
            raise requests.exceptions.InvalidURL("a request to another origin is not sent")
        # With a redirection, a token would go to whom the server names, and a POST would become a GET.
        named |= {"allow_redirects": False, "stream": True, "timeout": self._timeout_s}
        response = super().send(request, **named)
        try:
            response._content = self._read(response)
        finally:
            response.close()
        return response

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: requests would read the whole body of a redirection to follow it, however large that is."""
        return None

    def _read(self, response: requests.Response) -> bytes:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise AnswerError("the answer is compressed, which was not asked for")
        body, deadline = bytearray(), time.monotonic() + 10 * self._timeout_s
        try:
            while block := response.raw.read1(_BLOCK, decode_content=False):
                body += block
                if len(body) > self._most_bytes:
                    raise AnswerError(f"the answer has more than {self._most_bytes} bytes")
                if time.monotonic() > deadline:
                    raise AnswerError("the answer takes too long")
        except AnswerError:
            raise
        except Exception as error:
            # urllib3's errors are no errors of requests here.
            raise AnswerError(f"the answer breaks off ({type(error).__name__})") from None
        return bytes(body)


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
