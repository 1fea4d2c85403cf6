"""A DICOMweb archive on this machine: STOW-RS and QIDO-RS as far as delivery needs them, with faults on request."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom import dcmread

ROOT = "/dicom-web"
Said = tuple[int, Any]


def referenced(uid: str, **reasons: int) -> dict[str, Any]:
    """An item of a response module; ``failure`` or ``warning`` is a reason."""
    tags = {"failure": "00081197", "warning": "00081196"}
    item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid]}}
    return item | {tags[kind]: {"vr": "US", "Value": [reason]} for kind, reason in reasons.items()}


def module(*, stored: list[dict[str, Any]] | None = None, failed: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A Store Instances Response Module."""
    sequences = {"00081199": stored, "00081198": failed}
    return {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}


class WebArchive:
    """Keeps what it gets.

    Parameters
    ----------
    objects
        The stored files by SOP Instance UID.
    asked
        Method, path with query, and Authorization header of every request.
    says
        The answer to STOW-RS for an object; if it is None the object is stored, with 200.
    finds
        The answer to QIDO-RS; if it is None, what is there.
    token
        Who shows no such Authorization header gets 401.
    """

    def __init__(self) -> None:
        self.port = 0
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.types: list[str] = []
        self.says: Callable[[str], Said | None] = lambda uid: None
        self.finds: Callable[[], Said | None] = lambda: None
        self.token: str | None = None
        self.headers: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{ROOT}"

    def store(self, content_type: str, body: bytes) -> Said:
        match = re.search(r"boundary=([^; ]+)", content_type)
        assert match, content_type
        assert 'multipart/related; type="application/dicom"' in content_type
        marker = b"--" + match[1].encode()
        first, *parts, end = body.split(marker)
        assert (first, end) == (b"", b"--\r\n")
        stored, answers = [], []
        for part in parts:
            head, _, content = part.partition(b"\r\n\r\n")
            assert head == b"\r\nContent-Type: application/dicom"
            content = content.removesuffix(b"\r\n")
            uid = str(dcmread(BytesIO(content), specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
            said = self.says(uid)
            if said is None:
                self.objects[uid] = content
                stored.append(referenced(uid))
            else:
                answers.append(said)
        return answers[0] if answers else (200, module(stored=stored))

    def find(self, path: str) -> Said:
        said = self.finds()
        if said is not None:
            return said
        query = parse_qs(urlsplit(path).query)
        wanted = (query.get("SOPInstanceUID") or query.get("00080018") or [""])[0]
        found = [{"00080018": {"vr": "UI", "Value": [wanted]}}] if wanted in self.objects else []
        return (200, found) if found else (204, b"")


@contextmanager
def running_web_archive(tls: ssl.SSLContext | None = None) -> Iterator[WebArchive]:
    """An archive, over TLS if there is a context."""
    archive = WebArchive()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            archive.types.append(self.headers["Content-Type"])
            self._answer(lambda: archive.store(self.headers["Content-Type"], body))

        def do_GET(self) -> None:
            self._answer(lambda: archive.find(self.path))

        def _answer(self, act: Callable[[], Said]) -> None:
            login = self.headers.get("Authorization")
            archive.asked.append((self.command, self.path, login))
            status, said = act() if archive.token in (None, login) else (401, b"who are you?")
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/dicom+json", **archive.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    archive.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
