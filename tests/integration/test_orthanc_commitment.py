"""Storage commitment with Orthanc, both ways: it promises to keep our results, and asks us to keep its images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom_node.commitment.answers import Answers
from dicom_node.commitment.prover import Prover
from dicom_node.database.connection import Database
from dicom_node.delivery.deliverer import Delivery
from dicom_node.images.records import current_instance
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.listener import StorageListener
from dicom_node.settings.node import NodeSettings
from tests.fakes.datasets import STUDY, mr_image
from tests.fakes.results import add_result
from tests.fakes.scu import send
from tests.integration.test_delivery import rows, until
from tests.peers import ORTHANC, Orthanc, free_port, need, running_orthanc, wait_for

pytestmark = [pytest.mark.orthanc, need(ORTHANC)]


@pytest.fixture(scope="module")
def node_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def orthanc(node_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    modalities = {"spineone": ["SPINEONE", "127.0.0.1", node_port]}
    with running_orthanc(
        tmp_path_factory.mktemp("orthanc") / "pacs", more={"DicomModalities": modalities, "DicomAlwaysAllowFind": True}
    ) as running:
        yield running


@pytest.fixture
def settings(node_settings: NodeSettings, orthanc: Orthanc, node_port: int) -> NodeSettings:
    values = node_settings.model_dump()
    values["listener"] |= {"port": node_port}
    address = {"ae_title": orthanc.ae_title, "host": "127.0.0.1", "port": orthanc.port}
    peers = [{**address, "addresses": ["127.0.0.1"]}]
    return NodeSettings(**{**values, "peers": peers, "destinations": [{**address, "name": "pacs"}]})


def with_destination(settings: NodeSettings, **changes: object) -> NodeSettings:
    values = settings.model_dump()
    return NodeSettings(**{**values, "destinations": [{**values["destinations"][0], **changes}]})


@pytest.fixture
def listener(settings: NodeSettings, database: Database) -> Iterator[StorageListener]:
    running = StorageListener(settings, database, InstanceStore(database, settings.data_dir))
    running.start()
    yield running
    running.stop()


def deliver_and_prove(settings: NodeSettings, database: Database) -> None:
    Delivery(settings, database).deliver_due(settings.destinations[0])
    Prover(settings, database).prove_due(settings.destinations[0])


def test_orthanc__commits_to_what_it_got(settings: NodeSettings, database: Database, listener: StorageListener) -> None:
    asking = with_destination(settings, storage_commitment=True)
    add_result(database, asking, f"{STUDY}.5", ["pacs"])
    deliver_and_prove(asking, database)
    until(lambda: [row.proof for row in rows(database)] == ["committed", "committed"])


def test_orthanc__is_asked_by_find(settings: NodeSettings, database: Database) -> None:
    looking = with_destination(settings, read_back=True)
    add_result(database, looking, f"{STUDY}.6", ["pacs"])
    deliver_and_prove(looking, database)
    assert [row.proof for row in rows(database)] == ["found", "found"]


def test_orthanc__says_what_it_has_lost_and_gets_it_again(
    settings: NodeSettings, database: Database, orthanc: Orthanc, listener: StorageListener
) -> None:
    asking = with_destination(settings, storage_commitment=True)
    add_result(database, asking, f"{STUDY}.7", ["pacs"])
    Delivery(asking, database).deliver_due(asking.destinations[0])
    for instance in lookup(orthanc, f"{STUDY}.7.1.2"):
        orthanc.delete(f"/instances/{instance}")
    Prover(asking, database).prove_due(asking.destinations[0])
    until(lambda: [row.state for row in rows(database)] == ["sent", "waiting"])
    assert "0x0112" in rows(database)[1].last_message
    assert rows(database)[0].proof == "committed"


def test_orthanc__is_promised_what_we_keep(
    settings: NodeSettings, database: Database, orthanc: Orthanc, listener: StorageListener
) -> None:
    images = [mr_image(number, study=f"{STUDY}.8") for number in range(1, 6)]
    assert send(orthanc.port, *images, called=orthanc.ae_title) == [0] * 5
    assert send(listener.port, *images[:4], calling=orthanc.ae_title) == [0] * 4
    (study,) = lookup(orthanc, f"{STUDY}.8")
    assert ask_node(orthanc, study, settings, database) == {"Status": "Failure", "kept": 4, "reasons": [0x0112]}
    assert send(listener.port, images[4], calling=orthanc.ae_title) == [0]
    assert ask_node(orthanc, study, settings, database) == {"Status": "Success", "kept": 5, "reasons": []}
    with database.read() as session:
        row = current_instance(session, str(images[0].SOPInstanceUID))
    assert row
    Path(settings.data_dir / row.path).write_bytes(b"damaged")
    assert ask_node(orthanc, study, settings, database) == {"Status": "Failure", "kept": 4, "reasons": [0x0110]}


def lookup(orthanc: Orthanc, uid: str) -> list[str]:
    return [found["ID"] for found in orthanc.post("/tools/lookup", uid)]


def ask_node(orthanc: Orthanc, study: str, settings: NodeSettings, database: Database) -> dict[str, Any]:
    asked = orthanc.post("/modalities/spineone/storage-commitment", {"Resources": [study]})
    Answers(settings, database).answer_due()

    def report() -> dict[str, Any] | None:
        found: dict[str, Any] = orthanc.get(asked["Path"])
        return found if found["Status"] != "Pending" else None

    found = wait_for(report, timeout_s=20, what="the report of the commitment")
    reasons = [failure["FailureReason"] for failure in found.get("Failures", [])]
    return {"Status": found["Status"], "kept": len(found.get("Success", [])), "reasons": reasons}
