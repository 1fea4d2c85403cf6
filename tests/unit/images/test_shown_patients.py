"""Patient ID and Accession Number are in the database only where the settings ask for it, and leave no trace after that."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.database.connection import Database
from dicom_node.database.tables import ShownPatient
from dicom_node.images import shown_patients
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from tests.fakes.datasets import STUDY, incoming, mr_image


def image(number: int, patient: str = "PID-7391", accession: str = "ACC-5512") -> Dataset:
    dataset = mr_image(number)
    dataset.PatientID, dataset.AccessionNumber = patient, accession
    return dataset


def receive(database: Database, settings: NodeSettings, *images: Dataset, shown: bool = True) -> None:
    store = InstanceStore.of(NodeSettings(**{**settings.model_dump(), "shown": {"patient": shown}}), database)
    for one in images:
        assert store.receive(incoming(one)) == 0


def kept(database: Database) -> list[tuple[str, str, str]]:
    with database.read() as session:
        return [(row.study_uid, row.patient_id, row.accession) for row in session.scalars(select(ShownPatient))]


def in_files(folder: Path, text: bytes) -> list[str]:
    return [path.name for path in folder.glob("node.db*") if text in path.read_bytes()]


@pytest.mark.both_databases
def test_by_default__nothing_is_kept(database: Database, node_settings: NodeSettings) -> None:
    receive(database, node_settings, image(1), shown=False)
    assert kept(database) == []
    if not node_settings.database_url:
        assert in_files(node_settings.data_dir, b"PID-7391") == []


@pytest.mark.both_databases
def test_where_it_is_asked_for__the_newest_image_says_it(database: Database, node_settings: NodeSettings) -> None:
    receive(database, node_settings, image(1), image(2))
    assert kept(database) == [(STUDY, "PID-7391", "ACC-5512")]
    receive(database, node_settings, image(2, accession="ACC-2\x07"), image(3, accession="ACC-2\x07"))
    ((_, patient, accession),) = kept(database)
    assert (patient, accession.startswith("ACC-2"), accession.isprintable()) == ("PID-7391", True, True)


@pytest.mark.both_databases
def test_forget_all__leaves_nothing_in_table_or_file(database: Database, node_settings: NodeSettings) -> None:
    receive(database, node_settings, image(1))
    assert shown_patients.forget_all(database) == 1
    assert (kept(database), shown_patients.forget_all(database)) == ([], 0)
    if not node_settings.database_url:
        assert in_files(node_settings.data_dir, b"PID-7391") == []
        assert in_files(node_settings.data_dir, b"ACC-5512") == []
