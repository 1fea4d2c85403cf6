"""A job that takes too long ends in a coded refusal."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from dicom_node.analysis import completion
from dicom_node.analysis.time_limit import TimeIsUp, TimeLimit
from dicom_node.analysis.worker import Worker
from dicom_node.database.connection import Database
from dicom_node.database.tables import Job, ResultRow
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import incoming, mr_image
from tests.fakes.detector import FakeDetector


@pytest.fixture
def settings(node_settings: NodeSettings) -> NodeSettings:
    return NodeSettings(**{**node_settings.model_dump(), "worker": {"job_limit_s": 0.5}})


@pytest.fixture
def job(database: Database, settings: NodeSettings) -> Callable[[], Job]:
    store = InstanceStore(database, settings.data_dir)
    for number in range(1, 6):
        assert store.receive(incoming(mr_image(number))) == 0
    with database.write() as session:
        completion.complete_due(session, now=utc_now() + timedelta(hours=1), quiet_seconds=1, max_wait_seconds=1)
        session.scalars(select(Job)).one().not_before = utc_now()

    def look() -> Job:
        with database.read() as session:
            return session.scalars(select(Job)).one()

    return look


def endless() -> None:
    """Swallows every error, as a reader of hostile files does."""
    began = time.monotonic()
    while time.monotonic() - began < 60:
        try:
            time.sleep(0.1)
        except Exception:  # the interruption must not be one of these
            continue


def test_reading__that_takes_too_long_is_a_refusal(
    database: Database, settings: NodeSettings, job: Callable[[], Job]
) -> None:
    began = time.monotonic()
    Worker(settings, database, FakeDetector(endless)).run_once()
    assert time.monotonic() - began < 50
    assert job().state == "done"
    assert job().reason.startswith("not analysable: time_limit")
    with database.read() as session:
        assert session.scalars(select(ResultRow)).one()


def test_job__that_takes_too_long_elsewhere_is_put_aside_at_once(
    database: Database, settings: NodeSettings, job: Callable[[], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(settings, database, FakeDetector())
    monkeypatch.setattr(worker, "_share", lambda study_uid: endless())
    worker.run_once()
    assert job().state == "failed"
    assert "job_limit_s" in job().reason


def test_limit__leaves_nothing_behind() -> None:
    with TimeLimit(0.2):
        pass
    time.sleep(0.3)
    with pytest.raises(TimeIsUp), TimeLimit(0.1):
        time.sleep(5)
