"""A server that says exactly what a test wants, byte for byte, to every connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class RawServer:
    """What came is in ``heard``, one entry for each connection."""

    port: int
    heard: list[bytes] = field(default_factory=list)


@contextmanager
def running_raw_server(blocks: Sequence[bytes], *, pause_s: float = 0.0) -> Iterator[RawServer]:
    """Answer each connection's first request head with these blocks, ``pause_s`` seconds apart, then close."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = RawServer(listening.getsockname()[1])

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                server.heard.append(connection.recv(65536))
                try:
                    for block in blocks:
                        connection.sendall(block)
                        time.sleep(pause_s)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)
