"""Row 15: one study, two Patient IDs. The newest is used, the other is put aside, they are never merged."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.alerts.record import open_alerts
from dicom_node.analysis import completion
from dicom_node.analysis.worker import Worker
from dicom_node.database.connection import Database
from dicom_node.database.tables import Job, ResultFile, StudyRow
from dicom_node.images.incoming import SUCCESS
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import STUDY, incoming, mr_image
from tests.fakes.detector import FakeDetector


@pytest.fixture
def store(database: Database, node_settings: NodeSettings) -> InstanceStore:
    return InstanceStore(database, node_settings.data_dir)


def image(number: int, patient: str) -> Dataset:
    dataset = mr_image(number)
    dataset.PatientID = patient
    return dataset


def alerts(database: Database) -> dict[str, str]:
    with database.read() as session:
        return {alert.kind: alert.detail for alert in open_alerts(session)}


def analysed_patient(database: Database, settings: NodeSettings) -> tuple[str, int]:
    """Patient ID of the newest report, and how many images the detector was given."""
    counted: list[int] = []

    class Counting(FakeDetector):
        def read_study(self, paths, *, min_slices=1):  # type: ignore[no-untyped-def]
            counted.append(len(paths))
            return super().read_study(paths, min_slices=min_slices)

    with database.write() as session:
        later = utc_now() + timedelta(hours=1)
        completion.complete_due(session, now=later, quiet_seconds=1, max_wait_seconds=1)
        for job in session.scalars(select(Job)):
            job.not_before = utc_now()
    assert Worker(settings, database, Counting()).run_once()
    with database.read() as session:
        newest = select(ResultFile).where(ResultFile.role == "report").order_by(ResultFile.id.desc())
        report = session.scalars(newest).first()
    assert report is not None
    return str(pydicom.dcmread(Path(settings.data_dir) / report.path).PatientID), counted[0]


def test_without_a_resend__the_other_patients_images_are_put_aside(
    store: InstanceStore, database: Database, node_settings: NodeSettings
) -> None:
    for number in range(1, 6):
        assert store.receive(incoming(image(number, "A-1"))) == SUCCESS
    for number in range(6, 9):
        assert store.receive(incoming(image(number, "B-2"))) == SUCCESS
    assert len(list((node_settings.data_dir / "quarantine").iterdir())) == 3
    assert "never merged" in alerts(database)["quarantine"]
    assert "B-2" not in str(alerts(database))
    assert analysed_patient(database, node_settings) == ("A-1", 5)


def test_with_a_resend_of_all__the_corrected_ones_are_used(
    store: InstanceStore, database: Database, node_settings: NodeSettings
) -> None:
    for patient in ("A-1", "B-2"):
        for number in range(1, 6):
            assert store.receive(incoming(image(number, patient))) == SUCCESS
    assert store.receive(incoming(image(6, "B-2"))) == SUCCESS
    assert alerts(database) == {}
    assert analysed_patient(database, node_settings) == ("B-2", 6)


def test_with_a_resend_of_some__the_rest_is_left_out_until_it_comes(
    store: InstanceStore, database: Database, node_settings: NodeSettings
) -> None:
    for number in range(1, 9):
        store.receive(incoming(image(number, "A-1")))
    for number in range(1, 6):
        store.receive(incoming(image(number, "B-2")))
    assert analysed_patient(database, node_settings) == ("B-2", 5)
    assert "3 images" in alerts(database)["two_patients"]
    for number in range(6, 9):
        store.receive(incoming(image(number, "B-2")))
    assert analysed_patient(database, node_settings) == ("B-2", 8)
    assert alerts(database) == {}


def test_an_absent_patient_id_says_nothing(store: InstanceStore, database: Database) -> None:
    for number, patient in enumerate(("A-1", "", "A-1 "), start=1):
        assert store.receive(incoming(image(number, patient))) == SUCCESS
    assert alerts(database) == {}
    with database.read() as session:
        assert {row.study_uid for row in session.scalars(select(StudyRow))} == {STUDY}
