"""OHIF's built files and Orthanc's DICOMweb under one origin, on loopback; nothing but the standard library."""

from __future__ import annotations

import mimetypes
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# The file that deploy/ gives to OHIF.
APP_CONFIG = (Path(__file__).resolve().parents[2] / "deploy" / "ohif" / "app-config.js").read_bytes()
_TYPES = {".wasm": "application/wasm", ".js": "text/javascript", ".mjs": "text/javascript"}
# SharedArrayBuffer needs an isolated origin.
_ISOLATION = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    dist: Path
    orthanc: str

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/dicom-web"):
            self._forward()
        elif path == "/app-config.js":
            self._answer(200, APP_CONFIG, "text/javascript")
        else:
            self._file(path)

    def _forward(self) -> None:
        # The plugin writes absolute URLs from the Host header: with the browser's they stay on this origin.
        names = ("Accept", "Host", "Range")
        headers = {name: value for name in names if (value := self.headers.get(name))}
        request = urllib.request.Request(self.orthanc + self.path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                self._answer(answer.status, answer.read(), answer.headers.get("Content-Type", ""))
        except urllib.error.HTTPError as error:
            self._answer(error.code, error.read(), error.headers.get("Content-Type", ""))

    def _file(self, path: str) -> None:
        found = (self.dist / path.lstrip("/")).resolve()
        if not found.is_relative_to(self.dist) or not found.is_file():
            found = self.dist / "index.html"  # the app's own routes
        kind = _TYPES.get(found.suffix) or mimetypes.guess_type(found.name)[0] or "application/octet-stream"
        self._answer(200, found.read_bytes(), kind)

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**_ISOLATION, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a browser that hangs up."""


@contextmanager
def serving(dist: Path, orthanc: str, port: int) -> Iterator[str]:
    """Serve until the end of the block; the origin."""
    handler = type("Handler", (_Handler,), {"dist": dist.resolve(), "orthanc": orthanc})
    server = _Server(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        server.server_close()
