"""A small FHIR R4 server: transactions with conditional create, search by identifier, and faults on request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Said = tuple[int, Any]
ROOT = "/r4"


class FhirStore:
    """Keeps resources.

    Parameters
    ----------
    resources
        By kind and id; references of a transaction are resolved.
    bundles
        Every transaction that came, as it came.
    says
        The answer to a transaction; if it is None, it is carried out.
    deaf
        The next transaction is carried out, and the connection ends without an answer.
    """

    def __init__(self) -> None:
        self.port = 0
        self.resources: dict[str, dict[str, Any]] = {}
        self.bundles: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str, str | None]] = []
        self.says: Callable[[], Said | None] = lambda: None
        self.finds: Callable[[], Said | None] = lambda: None
        self.deaf = False
        self.token: str | None = None
        self.version = "4.0.1"
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{ROOT}"

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [resource for key, resource in self.resources.items() if key.startswith(f"{kind}/")]

    def search(self, kind: str, identifier: str) -> list[str]:
        """The keys of the resources with an identifier, given as ``system|value``."""
        wanted = tuple(identifier.split("|"))
        return [
            key
            for key, resource in self.resources.items()
            if key.startswith(f"{kind}/")
            and wanted in [(i.get("system"), i.get("value")) for i in resource.get("identifier", ())]
        ]

    def transact(self, bundle: dict[str, Any]) -> Said:
        with self._lock:
            self.bundles.append(bundle)
            said = self.says()
            if said is not None:
                return said
            assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "transaction")
            keys: dict[str, str] = {}
            made: set[str] = set()
            for entry in bundle["entry"]:
                request = entry["request"]
                assert request["method"] == "POST"
                name, _, identifier = request["ifNoneExist"].partition("=")
                assert name == "identifier"
                found = self.search(request["url"], identifier)
                if len(found) > 1:
                    return 412, {"resourceType": "OperationOutcome", "issue": [{"code": "multiple-matches"}]}
                key = found[0] if found else f"{request['url']}/{len(self.resources) + len(made) + 1}"
                made |= set() if found else {key}
                keys[entry["fullUrl"]] = key
            answers = []
            for entry in bundle["entry"]:
                key = keys[entry["fullUrl"]]
                if key in made:
                    self.resources[key] = _resolved(entry["resource"], keys)
                answers.append({"response": {"status": "201 Created" if key in made else "200 OK", "location": key}})
            return 200, {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}

    def get(self, path: str) -> Said:
        parts = urlsplit(path)
        kind = parts.path.removeprefix(f"{ROOT}/")
        if kind == "metadata":
            return 200, {"resourceType": "CapabilityStatement", "fhirVersion": self.version}
        said = self.finds()
        if said is not None:
            return said
        found = self.search(kind, parse_qs(parts.query)["identifier"][0])
        entries = [{"resource": self.resources[key]} for key in found]
        return 200, {"resourceType": "Bundle", "type": "searchset", "total": len(found), "entry": entries}


@contextmanager
def running_fhir_server() -> Iterator[FhirStore]:
    store = FhirStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert (self.path, self.headers["Content-Type"]) == (ROOT, "application/fhir+json")
            self._answer(lambda: store.transact(json.loads(body)))

        def do_GET(self) -> None:
            self._answer(lambda: store.get(self.path))

        def _answer(self, act: Callable[[], Said]) -> None:
            login = self.headers.get("Authorization")
            store.asked.append((self.command, self.path, login))
            status, said = act() if store.token in (None, login) else (401, b"")
            if store.deaf:
                store.deaf, self.close_connection = False, True
                return
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/fhir+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    store.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _resolved(value: Any, keys: dict[str, str]) -> Any:
    """A resource with its references inside the transaction replaced by what they became."""
    if isinstance(value, list):
        return [_resolved(one, keys) for one in value]
    if isinstance(value, dict):
        return {
            name: keys.get(one, one) if name == "reference" else _resolved(one, keys) for name, one in value.items()
        }
    return value
