"""Calling a web server of the settings: DICOMweb and FHIR. Every wait has a time-out, and every answer a largest size."""

from __future__ import annotations

import base64
import math
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import requests

from dicom_node.errors import DeliveryError
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.web_destinations import WebServer
from dicom_node.system.http_session import AnswerError, HttpSession, origin_of
from dicom_node.system.log import printable
from dicom_node.system.secret import SecretError, read_secret
from dicom_node.system.tls import client_context

# The largest answer that is read (bytes): 5,000 objects with their reasons, or as many matches.
MOST_BYTES = 4_000_000


class WebRemote:
    """A web server.

    Parameters
    ----------
    server
        Whom to call, and how to log in.
    timeout_s
        How long to wait for a connection, for an answer, and for the server to take a block of data (seconds).
    """

    def __init__(self, server: WebServer, *, timeout_s: float) -> None:
        self.server = server
        self._timeout_s = timeout_s

    @classmethod
    def of(cls, settings: NodeSettings, server: WebServer, *, longest_s: float = math.inf) -> Self:
        """A server of a node; the time-out comes from the settings (``[delivery]``).

        ``longest_s`` (seconds) caps it, for a person who waits for a command.
        """
        return cls(server, timeout_s=min(longest_s, settings.delivery.timeout_s))

    @property
    def where(self) -> str:
        """Host and port, as messages name it."""
        _, host, port = origin_of(self.server.url)
        return f"{host}:{port}"

    def session(self) -> HttpSession:
        """A new session, logged in as the settings say; secrets are read now. The caller closes it.

        Raises
        ------
        DeliveryError
            If a secret is not there, or a file for TLS cannot be used.
        """
        server = self.server
        try:
            context = (
                client_context(server.tls_ca, server.tls_cert, server.tls_key)
                if urlsplit(server.url).scheme == "https"
                else None
            )
            session = HttpSession(server.url, context, timeout_s=self._timeout_s, most_bytes=MOST_BYTES)
            session.headers.update(self._login())
        except SecretError as error:
            raise DeliveryError(str(error)) from None
        except (OSError, ValueError) as error:
            raise DeliveryError(f"the files for TLS cannot be used ({type(error).__name__})") from None
        return session

    def request(
        self,
        session: HttpSession,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """The answer to a request, whatever its status.

        Parameters
        ----------
        path
            What follows the base URL, with its slash.

        Raises
        ------
        DeliveryError
            If there is no whole answer, or a web page in place of one: a login that is shown with status 200 takes nothing.
        """
        url = self.server.url + path
        try:
            response = session.request(method, url, data=body, headers=dict(headers or {}), params=dict(params or {}))
        except (requests.RequestException, OSError, ValueError) as error:
            raise DeliveryError(f"{self.where}: {why(error)}") from None
        if response.ok and response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise DeliveryError(f"{self.where}: it answers with a web page; is url right?")
        return response

    def _login(self) -> dict[str, str]:
        server = self.server
        if server.token_file or server.token_env:
            value = f"Bearer {read_secret(server.token_file, server.token_env)}"
        elif server.user:
            password = read_secret(server.password_file, server.password_env)
            value = f"Basic {base64.b64encode(f'{server.user}:{password}'.encode()).decode('ascii')}"
        else:
            return {}
        if not value.isascii() or not value.isprintable():
            raise SecretError("the token holds characters that no token has")
        return {"Authorization": value}


def refusal(status: int) -> str:
    """What an HTTP status says that is no answer to what was asked."""
    if status in (401, 403):
        return f"it refuses the node's login or rights (status {status})"
    if 300 <= status < 400:
        return f"it redirects, which is not followed (status {status}); set url to the new place"
    if status in (404, 405, 501):
        return f"there is no such service at this url (status {status})"
    return f"it answers with status {status}"


def why(error: BaseException) -> str:
    """Why there was no answer, in the system's words. What libraries say holds URLs, so that is not repeated."""
    if isinstance(error, AnswerError):
        return str(error)
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not good: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({printable(cause.reason or 'no reason given')})"
        if isinstance(cause, TimeoutError):
            return "no answer in time"
        if isinstance(cause, OSError) and cause.strerror:
            return printable(cause.strerror, 200)
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return f"no answer ({type(error).__name__})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it wraps, and what came before it."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(seen) < 50:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
            if not isinstance(one, requests.RequestException):
                yield one
