"""Sending the audit log to an audit repository by syslog: RFC 5425 (TLS) and the same over TCP, or RFC 5426 (UDP).

The log's files are the spool: a position in them marks what the repository has received, so a repository that was down
gets everything later. Syslog has no answers. Over TCP the position moves only once the other side's kernel has
acknowledged every byte. A message may therefore arrive twice, and is lost only if the repository dies with what it has
received.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import ssl
import struct
import termios
import time
from collections.abc import Iterator
from pathlib import Path

from dicom_node.alerts.record import close_alert, raise_alert
from dicom_node.audit.log import FOLDER
from dicom_node.audit.spool import SENT, files, number_of, read_position
from dicom_node.database.connection import Database
from dicom_node.database.words import AlertKind
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import AuditRules
from dicom_node.system.files import exclusive_lock, write_atomically
from dicom_node.system.log import get_logger
from dicom_node.system.tls import client_context

_BATCH_BYTES = 1_000_000
_END = b"</AuditMessage>\n"


class AuditRepository:
    """Sends what the repository does not have yet. Only one process on a data folder does this."""

    def __init__(self, settings: NodeSettings, database: Database) -> None:
        self._rules = settings.audit
        self._folder = settings.data_dir / FOLDER
        self._database = database
        self._connection: socket.socket | None = None
        # What was last reported to be wrong (empty if nothing); None before the first attempt.
        self._told: str | None = None

    def send_due(self) -> None:
        """Send everything that has not been sent yet; an alert is open while the repository cannot be reached."""
        if not self._rules.repository_host or not self._folder.is_dir():
            return
        with exclusive_lock(self._folder / "sending") as mine:
            if not mine:
                return
            try:
                self._send_all()
                self._tell("")
            except OSError as error:
                self.close()
                self._tell(f"cannot be sent to ({error.strerror or type(error).__name__})")

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send_all(self) -> None:
        for number, offset, lines in self._batches():
            # A line that a crash cut off is left out.
            self._send([line for line in lines if line.endswith(_END)])
            write_atomically(self._folder / SENT, f"{number} {offset}\n".encode())

    def _batches(self) -> Iterator[tuple[int, int, list[bytes]]]:
        """Whole lines from the position onwards, each batch with the position after it."""
        number, offset = read_position(self._folder)
        known = files(self._folder)
        if known and number_of(known[-1]) < number:
            # Someone has cleared the folder, so its numbers start again.
            number = 0
        for path in known:
            if number_of(path) < number:
                continue
            at = offset if number_of(path) == number and offset <= path.stat().st_size else 0
            while lines := _lines(path, at):
                at += sum(len(line) for line in lines)
                yield number_of(path), at, lines

    def _send(self, lines: list[bytes]) -> None:
        if self._rules.repository_transport == "udp":
            self._send_datagrams(lines)
            return
        connection = self._connected()
        # Octet counting (RFC 5425 4.3); the newline belongs to our file, not to the message.
        connection.sendall(b"".join(b"%d %s" % (len(line) - 1, line[:-1]) for line in lines))
        _wait_until_taken(connection, self._rules.repository_timeout_s)

    def _send_datagrams(self, lines: list[bytes]) -> None:
        found = socket.getaddrinfo(self._rules.repository_host, self._rules.repository_port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as channel:
            channel.connect(address)
            for line in lines:
                try:
                    channel.send(line[:-1])
                except OSError as error:
                    if error.errno != errno.EMSGSIZE:
                        raise
                    get_logger().error("audit_not_sent", why="a message is longer than a datagram may be")

    def _connected(self) -> socket.socket:
        if self._connection is not None and _is_closed(self._connection):
            self.close()
        if self._connection is None:
            self._connection = connect(self._rules)
        return self._connection

    def _tell(self, why: str) -> None:
        """Open or close the alert, but only if something has changed."""
        if why == self._told:
            return
        subject = f"{self._rules.repository_host}:{self._rules.repository_port}"
        with self._database.write() as session:
            if why:
                raise_alert(session, AlertKind.AUDIT_BEHIND, subject, f"the audit repository {why}; messages are kept")
            else:
                close_alert(session, AlertKind.AUDIT_BEHIND, subject)
        self._told = why


def _lines(path: Path, offset: int) -> list[bytes]:
    """Whole lines of a file from an offset onwards, about a megabyte of them."""
    with path.open("rb") as file:
        file.seek(offset)
        return [line for line in file.readlines(_BATCH_BYTES) if line.endswith(b"\n")]


def connect(rules: AuditRules) -> socket.socket:
    """A connection to the repository; if the settings ask for TLS, it is encrypted and the certificate is verified.

    Raises
    ------
    OSError
        If it cannot be reached, or its certificate does not fit.
    """
    plain = socket.create_connection((rules.repository_host, rules.repository_port), timeout=rules.repository_timeout_s)
    if rules.repository_transport == "tcp":
        return plain
    try:
        return client_context(rules.repository_ca).wrap_socket(plain, server_hostname=rules.repository_host)
    except (OSError, ValueError):
        plain.close()
        raise


def _is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed the connection; nothing else that it might send matters."""
    timeout = connection.gettimeout()
    connection.setblocking(False)
    try:
        return not connection.recv(4096)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(timeout)


def _wait_until_taken(connection: socket.socket, timeout_s: float) -> None:
    """Wait until the kernel's send queue is empty, which means that everything was acknowledged (tcp(7), SIOCOUTQ).

    Raises
    ------
    TimeoutError
        If that takes too long.
    """
    deadline = time.monotonic() + timeout_s
    while struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]:
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "does not take what is sent")
        time.sleep(0.01)
