"""Receivers of alerts: a mail server and a web server on this machine."""

from __future__ import annotations

import email
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage, Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.fakes.scu import free_port

USER, PASSWORD = "node", "p=w0rd-of-the-node"


class MailServer:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[EmailMessage] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            self.mails.append(email.message_from_bytes(bytes(envelope.content or b""), policy=default))  # type: ignore[arg-type]
        return self.answer


@contextmanager
def running_mail_server(tls: ssl.SSLContext | None = None, *, port: int = 0) -> Iterator[MailServer]:
    """A mail server; with ``tls`` it wants STARTTLS, then USER and PASSWORD."""
    handler = MailServer()
    handler.port = port or handler.port
    login = (
        {"tls_context": tls, "require_starttls": True, "auth_required": True, "authenticator": _judge} if tls else {}
    )
    controller = Controller(handler, hostname="127.0.0.1", port=handler.port, **login)
    controller.start()
    try:
        yield handler
    finally:
        controller.stop()


def _judge(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=good, handled=False)


class WebServer:
    """Keeps the posts it gets: path, headers, body."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.posts: list[tuple[str, Message, bytes]] = []
        self.status = 204
        self.headers: dict[str, str] = {}


@contextmanager
def running_web_server(tls: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    """A web server, over TLS if there is a context."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.posts.append((self.path, self.headers, body))
            self.send_response(kept.status)
            for name, value in kept.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    kept = WebServer(server.server_address[1])
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
