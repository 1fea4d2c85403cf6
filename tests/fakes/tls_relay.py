"""What a proxy in front of a server does: it ends TLS and passes the bytes on."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def running_tls_relay(port: int, tls: ssl.SSLContext) -> Iterator[int]:
    """A relay to a port of this machine; yields its own port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                with (
                    tls.wrap_socket(self.request, server_side=True) as outer,
                    socket.create_connection(("127.0.0.1", port)) as inner,
                ):
                    back = threading.Thread(target=_pass_on, args=(inner, outer), daemon=True)
                    back.start()
                    _pass_on(outer, inner)
                    back.join(10)
            except OSError:
                return

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(65536):
            target.sendall(block)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
