"""A STOW-RS process in this process, and senders to it: bodies by hand, so that they can be wrong."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.database.connection import Database
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.web.stow_server import StowServer
from tests.fakes.scu import free_port

TOKEN = "a-token-of-the-router-0123456789"
OTHER_TOKEN = "a-token-of-the-modality-0123456789"
TYPE = 'multipart/related; type="application/dicom"; boundary=b'


def stow_settings(base: NodeSettings, monkeypatch: Any, **dicomweb: object) -> NodeSettings:
    """Settings with two peers and a token for each."""
    monkeypatch.setenv("ROUTER_TOKEN", TOKEN)
    monkeypatch.setenv("MODALITY_TOKEN", OTHER_TOKEN)
    values = base.model_dump()
    values["dicomweb"] |= {"enabled": True, "port": free_port(), **dicomweb}
    peers = [
        {"ae_title": "ROUTER", "addresses": ["127.0.0.1"], "max_associations": 2},
        {"ae_title": "MODALITY", "addresses": ["10.0.0.1"]},
    ]
    tokens = [{"peer": "ROUTER", "env": "ROUTER_TOKEN"}, {"peer": "MODALITY", "env": "MODALITY_TOKEN"}]
    return NodeSettings(**{**values, "peers": peers, "tokens": tokens})


@contextmanager
def stow_server(settings: NodeSettings, database: Database) -> Iterator[StowServer]:
    server = StowServer(settings, database, InstanceStore.of(settings, database))
    server.start()
    yield server
    server.stop()
    assert not server.is_alive()


def part10(dataset: Dataset) -> bytes:
    """A data set as a file."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def multipart(parts: Iterable[bytes], head: str = "Content-Type: application/dicom\r\n") -> bytes:
    made = b"".join(b"--b\r\n" + head.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return made + b"--b--\r\n"


@dataclass(frozen=True)
class Answer:
    """The status of an answer, its headers and its text."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def module(self) -> dict[str, Any]:
        """The Store Instances Response Module."""
        assert self.headers["content-type"] == "application/dicom+json"
        return dict(json.loads(self.text))

    def uids(self, tag: str) -> list[str]:
        """The SOP Instance UIDs of a sequence."""
        return [item["00081155"]["Value"][0] for item in self.module.get(tag, {"Value": []})["Value"]]

    @property
    def stored(self) -> list[str]:
        return self.uids("00081199")

    @property
    def reasons(self) -> dict[str, int]:
        """Failure reasons by SOP Instance UID."""
        failed = self.module.get("00081198", {"Value": []})["Value"]
        return {item["00081155"]["Value"][0]: item["00081197"]["Value"][0] for item in failed}

    @property
    def others(self) -> list[int]:
        """Failure reasons of what belongs to no instance."""
        return [item["00081197"]["Value"][0] for item in self.module.get("0008119A", {"Value": []})["Value"]]


def post(
    port: int,
    body: bytes | Iterable[bytes],
    *,
    path: str = "/dicom-web/studies",
    token: str | None = TOKEN,
    content_type: str = TYPE,
    method: str = "POST",
    timeout: float = 30,
    **more: str,
) -> Answer:
    """One request; a body that is no bytes is sent in chunks."""
    headers = {"Content-Type": content_type, **{name.replace("_", "-"): value for name, value in more.items()}}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers, encode_chunked=not isinstance(body, bytes))
        response = connection.getresponse()
        text = response.read().decode()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, text)
    finally:
        connection.close()


def store(port: int, datasets: Sequence[Dataset], **more: Any) -> Answer:
    """Send data sets as they should be sent."""
    return post(port, multipart(map(part10, datasets)), **more)
