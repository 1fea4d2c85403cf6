"""Orthanc's DICOMweb plugin as a STOW-RS sender: bytes at the node equal Orthanc's files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from pydicom.uid import RLELossless
from sqlalchemy import select

from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance
from dicom_node.settings.node import NodeSettings
from dicom_node.web.stow_server import StowServer
from tests.fakes.datasets import mr_image
from tests.fakes.scu import send
from tests.fakes.stow import TOKEN, stow_server, stow_settings
from tests.peers import DICOMWEB, ORTHANC, Orthanc, need, running_orthanc

pytestmark = [pytest.mark.orthanc, need(ORTHANC, DICOMWEB)]


@pytest.fixture
def server(node_settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[StowServer]:
    with stow_server(stow_settings(node_settings, monkeypatch), database) as running:
        yield running


@pytest.fixture
def orthanc(server: StowServer, tmp_path: Path) -> Iterator[Orthanc]:
    def server_of(token: str) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {token}"}
        return {"Url": f"http://127.0.0.1:{server.port}/dicom-web", "HttpHeaders": headers}

    servers = {"node": server_of(TOKEN), "wrong": server_of("x" * 32)}
    more = {"DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Servers": servers, "StowMaxInstances": 4}}
    with running_orthanc(tmp_path / "pacs", plugins=(DICOMWEB,), more=more) as running:
        yield running


def test_orthanc__stores_a_study(server: StowServer, orthanc: Orthanc, database: Database) -> None:
    images = [mr_image(number) for number in range(1, 11)]
    images[4].compress(RLELossless, generate_instance_uid=False)
    assert send(orthanc.port, *images, called=orthanc.ae_title) == [0] * 10
    (study,) = orthanc.get("/studies")
    with pytest.raises(HTTPError):
        orthanc.post("/dicom-web/servers/wrong/stow", {"Resources": [study], "Synchronous": True})
    for _ in range(2):
        job = orthanc.post("/dicom-web/servers/node/stow", {"Resources": [study], "Synchronous": True})
        assert int(job["InstancesCount"]) == 10
    theirs = {hashlib.sha256(orthanc.file_of(instance)).hexdigest() for instance in orthanc.get("/instances")}
    with database.read() as session:
        rows = list(session.scalars(select(Instance)))
    assert {row.sha256 for row in rows} == theirs
    assert len(rows) == 10
    assert {(row.calling_ae, row.is_current) for row in rows} == {("ROUTER", True)}
