"""Telling people: one message by e-mail (SMTP, RFC 5321) or by an HTTP POST of JSON.

Passwords and keys are read when they are needed, and appear in no log and no error.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from dicom_node.errors import NotifyError
from dicom_node.settings.sections import Email, Webhook
from dicom_node.system.log import printable
from dicom_node.system.secret import SecretError, read_secret
from dicom_node.system.tls import client_context

SIGNATURE_HEADER = "X-SpineOne-Signature"


@dataclass(frozen=True, slots=True)
class Message:
    """One message in the forms that receivers take: the subject and text of a mail, and an object for JSON."""

    subject: str
    text: str
    payload: dict[str, Any]


class Channel(Protocol):
    """A way to one receiver."""

    def send(self, message: Message) -> None:
        """Hand a message over; the receiver's server has it when this returns.

        Raises
        ------
        NotifyError
            If the server did not take it.
        """

    def check(self) -> None:
        """Go as far as possible without sending anything.

        Raises
        ------
        NotifyError
            If a message could not be sent now.
        """


def channel_to(receiver: Email | Webhook, *, timeout_s: float) -> Channel:
    """The way to a receiver; ``timeout_s`` is for connecting and for each answer (seconds)."""
    return Mail(receiver, timeout_s) if isinstance(receiver, Email) else Hook(receiver, timeout_s)


class Mail:
    """E-mail."""

    def __init__(self, settings: Email, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s

    def send(self, message: Message) -> None:
        """See `Channel`. If only some of the addresses are refused, the others get the mail and no error is raised."""
        with self._server() as server:
            server.send_message(self._compose(message), self._settings.sender, list(self._settings.to))

    def check(self) -> None:
        """Connect, encrypt and log in; then ask whether the server accepts the sender and each address."""
        with self._server() as server:
            server.ehlo_or_helo_if_needed()
            _expect_welcome(*server.mail(self._settings.sender))
            for address in self._settings.to:
                _expect_welcome(*server.rcpt(address))
            server.rset()

    def _compose(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"] = message.subject
        mail["From"] = self._settings.sender
        mail["To"] = ", ".join(self._settings.to)
        mail["Date"] = formatdate(localtime=True)
        mail["Message-ID"] = make_msgid("spineone", self._settings.sender.rpartition("@")[2])
        # This asks for no out-of-office replies, which help nobody (RFC 3834).
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        return mail

    @contextmanager
    def _server(self) -> Iterator[smtplib.SMTP]:
        settings = self._settings
        try:
            with self._connection() as server:
                if settings.security == "starttls":
                    server.starttls(context=client_context(settings.tls_ca))
                if settings.user:
                    server.login(settings.user, _secret(settings.password_file, settings.password_env))
                yield server
        except smtplib.SMTPRecipientsRefused:
            raise NotifyError("the mail server refuses all addresses") from None
        except smtplib.SMTPResponseException as error:
            raise NotifyError(f"the mail server says {_reply(error.smtp_code, error.smtp_error)}") from None
        except (OSError, ValueError, smtplib.SMTPException) as error:
            raise NotifyError(f"mail server {settings.host}:{settings.port}: {_why(error)}") from None

    def _connection(self) -> smtplib.SMTP:
        where = (self._settings.host, self._settings.port)
        if self._settings.security == "tls":
            return smtplib.SMTP_SSL(*where, timeout=self._timeout_s, context=client_context(self._settings.tls_ca))
        return smtplib.SMTP(*where, timeout=self._timeout_s)


class Hook:
    """An HTTP POST of JSON, optionally signed."""

    def __init__(self, settings: Webhook, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s

    def send(self, message: Message) -> None:
        """See `Channel`. Any status from 200 to 299 counts as success.

        A redirection does not, since it would turn the POST into a GET.
        """
        body = json.dumps(message.payload).encode()
        request = urllib.request.Request(self._settings.url, body, {"Content-Type": "application/json"}, method="POST")
        request.add_header("User-Agent", "SpineOne-Node")
        key = self._key()
        if key:
            digest = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
            request.add_header(SIGNATURE_HEADER, f"sha256={digest}")
        tls = urllib.request.HTTPSHandler(context=client_context(self._settings.tls_ca))
        try:
            with urllib.request.build_opener(tls, _NoRedirection).open(request, timeout=self._timeout_s):
                pass
        except urllib.error.HTTPError as error:
            raise NotifyError(f"the web server says {error.code} {printable(error.reason)}") from None
        except (OSError, HTTPException, ValueError) as error:
            raise NotifyError(f"{self._place()[0]}: {_why(error)}") from None

    def check(self) -> None:
        """Connect and check the certificate, but no more: a POST would already be a message."""
        self._key()
        host, port = self._place()
        try:
            with socket.create_connection((host, port), timeout=self._timeout_s) as connection:
                if self._settings.url.startswith("https"):
                    client_context(self._settings.tls_ca).wrap_socket(connection, server_hostname=host).close()
        except (OSError, ValueError) as error:
            raise NotifyError(f"{host}:{port}: {_why(error)}") from None

    def _key(self) -> str:
        settings = self._settings
        return _secret(settings.secret_file, settings.secret_env) if settings.secret_file or settings.secret_env else ""

    def _place(self) -> tuple[str, int]:
        """Host and port only, since the rest of a webhook's URL may be a secret."""
        parts = urlsplit(self._settings.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


def _secret(file: Path | None, variable: str) -> str:
    """A password or key.

    Raises
    ------
    NotifyError
        If there is none.
    """
    try:
        return read_secret(file, variable)
    except SecretError as error:
        raise NotifyError(str(error)) from None


def _expect_welcome(code: int, said: bytes) -> None:
    if code // 100 != 2:
        raise smtplib.SMTPResponseException(code, said)


def _reply(code: int, said: bytes | str) -> str:
    return printable(f"{code} {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}", 200)


def _why(error: Exception) -> str:
    """What went wrong, in the system's words. Neither library puts what was sent into its errors."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {reason.verify_message}"
    said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return printable(said, 200)
