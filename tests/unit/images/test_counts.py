"""The counts that a study keeps are those of the index rows, whatever happens to its files."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from dicom_node.analysis import jobs
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, StudyRow
from dicom_node.database.words import StudyState
from dicom_node.dicom.identifiers import MANUFACTURER
from dicom_node.images.records import count_instances
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.upkeep.retention import Retention
from tests.fakes.datasets import STUDY, incoming, mr_image

pytestmark = pytest.mark.both_databases


def own_result(number: int) -> object:
    dataset = mr_image(number)
    del dataset.PixelData
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"
    dataset.Manufacturer = MANUFACTURER
    return incoming(dataset)


def check(database: Database, *, files: int, current: int) -> None:
    """What the study says, what the index says, and what the status says."""
    with database.read() as session:
        study = session.get(StudyRow, STUDY)
        on_disk = select(func.count()).select_from(Instance).where(Instance.purged_at.is_(None))
        assert session.scalar(on_disk) == files
        assert study is None or study.files == files
        assert count_instances(session) == session.scalar(on_disk.where(Instance.is_current)) == current


def test_files__through_the_life_of_a_study(database: Database, node_settings: NodeSettings) -> None:
    store = InstanceStore(database, node_settings.data_dir)
    assert store.receive(own_result(9)) == 0  # type: ignore[arg-type]
    check(database, files=1, current=1)
    for number in (1, 2, 1):
        assert store.receive(incoming(mr_image(number))) == 0
    check(database, files=3, current=3)
    assert store.receive(own_result(8)) == 0  # type: ignore[arg-type]
    corrected = mr_image(1)
    corrected.PatientComments = "corrected"
    assert store.receive(incoming(corrected)) == 0
    check(database, files=5, current=4)
    purge(database, node_settings)
    check(database, files=0, current=0)
    assert store.receive(incoming(mr_image(2))) == 0
    check(database, files=1, current=1)


def purge(database: Database, settings: NodeSettings) -> None:
    """Delete the study as if all evidence were there."""
    retention = Retention(settings, database)
    retention._kept_because = lambda session, study: ""  # type: ignore[method-assign]
    with database.write() as session:
        study = session.get(StudyRow, STUDY)
        assert study is not None
        study.state = StudyState.COMPLETE
        jobs.enqueue(session, STUDY, study.generation, now=utc_now())
        claim = jobs.claim(session, "me", now=utc_now())
        assert claim is not None
        jobs.reject(session, claim, "for the test")
        session.get_one(jobs.Job, claim.job_id).state = "done"
    assert retention.purge(STUDY).kept_because == ""
