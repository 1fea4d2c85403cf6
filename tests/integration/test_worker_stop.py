"""A worker process stopped or killed in the middle of a job."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.analysis import completion
from dicom_node.analysis.jobs import LeaseWatch
from dicom_node.analysis.worker import Worker
from dicom_node.database.connection import Database
from dicom_node.database.tables import Job, ResultFile
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import incoming, mr_image
from tests.fakes.detector import FakeDetector

# A worker whose detector never ends; it says when it has begun.
CHILD = """
import sys, time
from pathlib import Path
from dicom_node.analysis import lease
from dicom_node.analysis.worker import Worker
from dicom_node.system.lifecycle import StopFlag
from dicom_node.database.connection import open_database
from dicom_node.settings.node import NodeSettings
from tests.fakes.detector import FakeDetector

def forever():
    print("begun", flush=True)
    time.sleep(600)

lease.STOP_GRACE_S = 0.5
settings = NodeSettings(data_dir=Path(sys.argv[1]), worker={"heartbeat_s": 0.2})
stop = StopFlag().install()
Worker(settings, open_database(settings.database), FakeDetector(forever)).run(stop)
"""


@pytest.fixture
def busy(database: Database, node_settings: NodeSettings) -> Iterator[subprocess.Popen[str]]:
    """A worker process deep in the detector."""
    store = InstanceStore(database, node_settings.data_dir)
    for number in range(1, 6):
        store.receive(incoming(mr_image(number)))
    with database.write() as session:
        later = utc_now() + timedelta(hours=1)
        completion.complete_due(session, now=later, quiet_seconds=1, max_wait_seconds=1)
        session.scalars(select(Job)).one().not_before = utc_now()
    command = [sys.executable, "-c", CHILD, str(node_settings.data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout is not None
        assert any("begun" in line for line in child.stdout)
        yield child
        child.kill()


def the_job(database: Database) -> Job:
    with database.read() as session:
        return session.scalars(select(Job)).one()


def test_sigterm__hands_the_job_back(database: Database, busy: subprocess.Popen[str]) -> None:
    busy.send_signal(signal.SIGTERM)
    assert busy.wait(10) == 0
    assert (the_job(database).state, the_job(database).attempts) == ("waiting", 0)


def test_heartbeat__keeps_the_lease(database: Database, busy: subprocess.Popen[str]) -> None:
    before = the_job(database).heartbeat
    time.sleep(1.5)
    assert the_job(database).heartbeat > before


def test_kill__the_job_is_done_once_by_another_worker(
    database: Database, node_settings: NodeSettings, busy: subprocess.Popen[str]
) -> None:
    busy.kill()
    busy.wait()
    watch = LeaseWatch(10)
    with database.write() as session:
        watch.reclaim(session, max_attempts=5, monotonic=0)
        assert watch.reclaim(session, max_attempts=5, monotonic=11) == [the_job(database).id]
    worker = Worker(node_settings, database, FakeDetector())
    assert worker.run_once()
    assert not worker.run_once()
    assert (the_job(database).state, the_job(database).attempts) == ("done", 2)
    with database.read() as session:
        assert len(session.scalars(select(ResultFile).where(ResultFile.role == "report")).all()) == 1
