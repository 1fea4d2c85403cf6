"""What a peer may make the store keep, hold in memory and compare."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest
from pydicom import filereader
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage
from sqlalchemy import select

from dicom_node.alerts.record import open_alerts
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert, Instance
from dicom_node.dicom.headers import NoRoomError
from dicom_node.dicom.identifiers import MANUFACTURER
from dicom_node.images import same_pixels
from dicom_node.images.incoming import OUT_OF_RESOURCES, SUCCESS, Incoming
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.study_rules import StudyRules
from spineone_core.imaging.children import place_for_child
from tests.fakes.datasets import encode, incoming, mr_image


@pytest.fixture
def store(database: Database, node_settings: NodeSettings) -> InstanceStore:
    return InstanceStore(database, node_settings.data_dir)


def rows(database: Database) -> list[Instance]:
    with database.read() as session:
        return list(session.scalars(select(Instance).order_by(Instance.id)))


def alerts(database: Database) -> list[Alert]:
    with database.read() as session:
        return list(open_alerts(session))


def contradiction(number: int) -> Incoming:
    """An image that is known, in another study."""
    image = mr_image(1)
    image.StudyInstanceUID = f"1.2.77.{number}"
    return incoming(image)


def test_quarantine__is_full_one_day_and_keeps_what_it_has(node_settings: NodeSettings, database: Database) -> None:
    store = InstanceStore(database, node_settings.data_dir, quarantine_bytes=3 * 2 * 4096)
    assert store.receive(incoming(mr_image(1))) == SUCCESS
    statuses = [store.receive(contradiction(number)) for number in range(5)]
    assert statuses == [SUCCESS] * 3 + [OUT_OF_RESOURCES] * 2
    assert len(list((node_settings.data_dir / "quarantine").iterdir())) == 3
    # What is there already may come again, and other images are not affected.
    assert store.receive(contradiction(0)) == SUCCESS
    assert store.receive(incoming(mr_image(2))) == SUCCESS
    assert any("quarantine_max_gb" in alert.detail for alert in alerts(database))


def test_study_limit__holds_for_what_claims_to_be_a_result_of_ours(
    node_settings: NodeSettings, database: Database
) -> None:
    store = InstanceStore(database, node_settings.data_dir, study=StudyRules(max_images=3))
    claims = [mr_image(number) for number in range(1, 6)]
    for image in claims:
        image.SOPClassUID, image.Manufacturer = SecondaryCaptureImageStorage, MANUFACTURER
    assert [store.receive(incoming(image)) for image in claims] == [SUCCESS] * 3 + [OUT_OF_RESOURCES] * 2


def test_pixels__are_compared_by_one_child_at_a_time(
    store: InstanceStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of a child is limited; that of many is not."""
    monkeypatch.setattr(same_pixels, "_WAIT_S", 0.05)
    compressed = mr_image(1)
    compressed.compress(RLELossless, generate_instance_uid=False)
    assert store.receive(incoming(mr_image(1))) == SUCCESS
    again = incoming(compressed, transfer_syntax_uid=RLELossless)
    with place_for_child(1):
        assert store.receive(again) == OUT_OF_RESOURCES
    assert store.receive(again) == SUCCESS
    assert len(rows(database)) == 2


def test_receive__inflating_takes_memory_of_the_budget(store: InstanceStore) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = packer.compress(encode(mr_image(1))) + packer.flush()

    def none_left(size: int) -> None:
        raise NoRoomError("none")

    deflated = incoming(mr_image(1), transfer_syntax_uid=DeflatedExplicitVRLittleEndian, data=data)
    assert store.receive(replace(deflated, hold=none_left)) == OUT_OF_RESOURCES
    assert store.receive(deflated) == SUCCESS


@pytest.mark.parametrize("undefined", [False, True])
def test_receive__sequences_of_very_many_items_are_not_parsed(
    store: InstanceStore, monkeypatch: pytest.MonkeyPatch, undefined: bool
) -> None:
    """Frames; and the one sequence that is looked at, to find out whether an object is a result of ours."""
    image = mr_image(1)
    image.SOPClassUID = SecondaryCaptureImageStorage
    for keyword in ("ContributingEquipmentSequence", "PerFrameFunctionalGroupsSequence"):
        setattr(image, keyword, [Dataset() for _ in range(8000)])
        image[keyword].is_undefined_length = undefined
    parsed: list[object] = []
    monkeypatch.setattr(filereader, "read_sequence_item", lambda *arguments: parsed.append(arguments))
    assert store.receive(incoming(image)) == SUCCESS
    assert parsed == []
