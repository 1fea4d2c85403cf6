"""A DICOMweb archive on this machine that is searched and read: QIDO-RS and WADO-RS, with faults on request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom.dataset import Dataset

from tests.fakes.stow import TYPE, multipart, part10

_KEYWORDS = {
    "studies": ("StudyInstanceUID", "StudyDate"),
    "series": ("SeriesInstanceUID", "Modality"),
    "instances": ("SOPInstanceUID", "SOPClassUID"),
}


class WadoArchive:
    """Has some objects.

    Parameters
    ----------
    objects
        What it has.
    asked
        Path with query, Accept and Authorization header of every request.
    gives_numbers
        Whether it fills in NumberOfSeriesRelatedInstances.
    page
        The most matches that it gives at once.
    goes_on
        Whether it heeds ``offset``.
    status, headers
        Of each answer to WADO-RS.
    body
        The body of an answer to WADO-RS, block by block, from the files that it has of the series.
    length
        The Content-Length that it says of such a body; without one the body is chunked.
    cuts
        Whether it closes the connection after the body without its last chunk.
    finds
        The status of each answer to QIDO-RS and its body; None: what is there.
    """

    def __init__(self, objects: Sequence[Dataset]) -> None:
        self.port = 0
        self.objects = list(objects)
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.gives_numbers = True
        self.page = 1000
        self.goes_on = True
        self.status = 200
        self.headers = {"Content-Type": TYPE}
        self.body: Callable[[list[bytes]], Iterable[bytes]] = lambda files: [multipart(files)]
        self.length: int | None = None
        self.cuts = False
        self.finds: tuple[int, bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def wado_paths(self) -> list[str]:
        """The paths that were asked for by WADO-RS."""
        return [path for path, accept, _ in self.asked if "multipart" in str(accept)]

    def find(self, path: str) -> tuple[int, bytes]:
        """The answer to QIDO-RS."""
        if self.finds is not None:
            return self.finds
        parts = urlsplit(path)
        level = parts.path.rpartition("/")[2]
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        matches: dict[str, Any] = {}
        for dataset in self._of(parts.path):
            wanted = {key: value for key, value in query.items() if key not in ("limit", "offset")}
            if all(str(dataset.get(key, "")) == value for key, value in wanted.items()):
                matches[dataset[_KEYWORDS[level][0]].value] = self._match(level, dataset)
        start = int(query.get("offset", "0")) if self.goes_on else 0
        found = list(matches.values())[start:][: min(self.page, int(query["limit"]))]
        return (200, json.dumps(found).encode()) if found else (204, b"")

    def _of(self, path: str) -> list[Dataset]:
        """The objects of the study and series that a path names."""
        words = path.split("/")
        named = {key: words[words.index(key) + 1 :][:1] for key in ("studies", "series") if key in words}
        return [
            dataset
            for dataset in self.objects
            if named["studies"] in ([], [dataset.StudyInstanceUID])
            and named.get("series", []) in ([], [dataset.SeriesInstanceUID])
        ]

    def _match(self, level: str, dataset: Dataset) -> dict[str, Any]:
        match = {
            f"{dataset[keyword].tag:08X}": {"vr": dataset[keyword].VR, "Value": [str(dataset[keyword].value)]}
            for keyword in _KEYWORDS[level]
            if keyword in dataset
        }
        if level == "series" and self.gives_numbers:
            number = sum(other.SeriesInstanceUID == dataset.SeriesInstanceUID for other in self.objects)
            match["00201209"] = {"vr": "IS", "Value": [number]}
        return match

    def files(self, path: str) -> list[bytes]:
        """The files of the series that a path names."""
        return [part10(dataset) for dataset in self._of(path)]


@contextmanager
def running_wado_archive(objects: Sequence[Dataset]) -> Iterator[WadoArchive]:
    """An archive on a port of its own."""
    archive = WadoArchive(objects)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            accept = self.headers.get("Accept")
            archive.asked.append((self.path, accept, self.headers.get("Authorization")))
            try:
                self._retrieve() if "multipart" in str(accept) else self._find()
            except OSError:
                """The node has had enough."""

        def _find(self) -> None:
            status, body = archive.find(self.path)
            self._head(status, {"Content-Type": "application/dicom+json", "Content-Length": str(len(body))})
            self.wfile.write(body)

        def _retrieve(self) -> None:
            is_chunked = archive.length is None
            length = {"Transfer-Encoding": "chunked"} if is_chunked else {"Content-Length": str(archive.length)}
            self._head(archive.status, {**archive.headers, **length})
            for block in archive.body(archive.files(self.path)):
                self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n" if is_chunked else block)
            if is_chunked and not archive.cuts:
                self.wfile.write(b"0\r\n\r\n")

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    archive.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
