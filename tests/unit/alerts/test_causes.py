"""Alerts close when their cause is over, each kind by its own evidence."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from dicom_node.alerts.causes import Causes
from dicom_node.alerts.record import open_alerts, raise_alert
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert, StudyRow
from dicom_node.database.words import AlertKind
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.study_rules import StudyRules
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import STUDY, incoming, mr_image

pytestmark = pytest.mark.both_databases


def kinds(database: Database) -> list[str]:
    with database.read() as session:
        return [alert.kind for alert in open_alerts(session)]


def look(settings: NodeSettings, database: Database) -> list[str]:
    """The kinds that are still open after a look."""
    Causes(settings, database).close_past()
    return kinds(database)


def age_alerts(database: Database, hours: float) -> None:
    with database.write() as session:
        session.execute(update(Alert).values(last_at=utc_now() - timedelta(hours=hours)))


def test_refused__no_such_refusal_for_a_day(database: Database, node_settings: NodeSettings) -> None:
    with database.write() as session:
        raise_alert(session, AlertKind.REFUSED, "PACS: an object is too large", "1.2.3")
    age_alerts(database, 23)
    assert look(node_settings, database) == ["refused"]
    age_alerts(database, 25)
    assert look(node_settings, database) == []


def test_quarantine__the_object_was_taken_out(database: Database, node_settings: NodeSettings) -> None:
    broken = mr_image()
    del broken.SeriesInstanceUID
    InstanceStore(database, node_settings.data_dir).receive(incoming(broken))
    assert look(node_settings, database) == ["quarantine"]
    age_alerts(database, 1000)
    assert look(node_settings, database) == ["quarantine"]
    (kept,) = (node_settings.data_dir / "quarantine").iterdir()
    kept.rename(node_settings.data_dir.parent / "looked-at.dcm")
    assert look(node_settings, database) == []


def test_quarantine__a_folder_that_is_not_mounted_is_no_evidence(
    database: Database, node_settings: NodeSettings, tmp_path: Path
) -> None:
    broken = mr_image()
    del broken.SeriesInstanceUID
    InstanceStore(database, node_settings.data_dir).receive(incoming(broken))
    node_settings.data_dir.rename(tmp_path / "elsewhere")
    elsewhere = Database(node_settings.database.replace("/data/", "/elsewhere/"))
    assert look(node_settings, elsewhere) == ["quarantine"]
    elsewhere.close()


def limited(settings: NodeSettings, **study: object) -> NodeSettings:
    return NodeSettings(**{**settings.model_dump(), "study": {"max_images": 2, **study}})


@pytest.fixture
def full_study(database: Database, node_settings: NodeSettings) -> InstanceStore:
    """A study that has as many images as the settings allow, and was sent one more."""
    store = InstanceStore(database, node_settings.data_dir, study=StudyRules(max_images=2))
    assert [store.receive(incoming(mr_image(number))) for number in (1, 2, 3)] == [0, 0, 0xA700]
    return store


def test_study_limit__stays_while_the_study_is_at_its_limit(
    database: Database, node_settings: NodeSettings, full_study: InstanceStore
) -> None:
    age_alerts(database, 0)
    with database.write() as session:
        session.execute(update(StudyRow).values(last_received_at=utc_now() - timedelta(hours=1)))
    assert look(limited(node_settings), database) == ["study_limit"]


def test_study_limit__the_settings_allow_more(
    database: Database, node_settings: NodeSettings, full_study: InstanceStore
) -> None:
    assert look(limited(node_settings, max_images=3), database) == []


def test_study_limit__an_image_was_taken_again(
    database: Database, node_settings: NodeSettings, full_study: InstanceStore
) -> None:
    age_alerts(database, 1)
    with database.write() as session:
        session.get_one(StudyRow, STUDY).last_received_at = utc_now()
    assert look(limited(node_settings), database) == []


def test_others__are_left_alone(database: Database, node_settings: NodeSettings) -> None:
    with database.write() as session:
        raise_alert(session, AlertKind.JOB_FAILED, "1.2.3", "broken")
    age_alerts(database, 10_000)
    assert look(node_settings, database) == ["job_failed"]
