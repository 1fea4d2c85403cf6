"""The sockets that the HTTP servers listen on."""

from __future__ import annotations

import socket

BACKLOG = 64


def listen_on(host: str, port: int) -> socket.socket:
    """A socket that listens on an address.

    Raises
    ------
    OSError
        If the address is not available.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
