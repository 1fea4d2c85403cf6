"""A worker that died is seen by its supervisor: its job need not wait for the end of its lease."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.alerts.record import open_alerts
from dicom_node.analysis import jobs
from dicom_node.analysis.lease import owner_name
from dicom_node.database.connection import Database
from dicom_node.processes.supervisor import Child, Supervisor
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from tests.unit.analysis.test_jobs import add_job, state_of


@pytest.fixture
def supervisor(node_settings: NodeSettings, database: Database) -> Supervisor:
    return Supervisor(node_settings, database, Path("node.toml"))


def dead_child(supervisor: Supervisor, *, of: str) -> int:
    """Kill a process that stands for a child; returns its number. The supervisor has not looked yet."""
    child = next(child for child in supervisor._children if child.name.startswith(of))
    child.command = [sys.executable, "-c", "import time; time.sleep(600)"]
    child.start()
    assert child.process is not None
    child.process.kill()
    child.process.wait()
    return child.process.pid


def look(supervisor: Supervisor) -> None:
    for child in supervisor._children:
        if child.process is not None:
            supervisor._watch(child)
            child.close_pipe()


def claim(database: Database, owner: str) -> None:
    with database.write() as session:
        assert jobs.claim(session, owner, now=utc_now()) is not None


@pytest.mark.both_databases
def test_dead_worker__its_job_is_given_back_at_once(supervisor: Supervisor, database: Database) -> None:
    job = add_job(database)
    pid = dead_child(supervisor, of="worker")
    claim(database, owner_name(pid))
    look(supervisor)
    row = state_of(database, job)
    assert (row.state, row.attempts, row.lease_token) == ("waiting", 1, None)
    assert row.reason == f"worker {owner_name(pid)} died"
    # The next attempt counts up: a job that kills its workers is given up.
    for attempt in range(2, 1 + NodeSettings().worker.max_attempts):
        assert state_of(database, job).state == "waiting", attempt
        claim(database, owner_name(pid := dead_child(supervisor, of="worker")))
        look(supervisor)
    assert state_of(database, job).state == "failed"
    with database.read() as session:
        assert {alert.kind for alert in open_alerts(session)} == {"job_failed", "process_restarted"}


def test_dead_worker__the_jobs_of_others_stay(supervisor: Supervisor, database: Database) -> None:
    job = add_job(database)
    claim(database, owner_name(1))
    dead_child(supervisor, of="worker")
    look(supervisor)
    assert state_of(database, job).state == "running"


def test_dead_listener__is_no_worker(supervisor: Supervisor, database: Database) -> None:
    job = add_job(database)
    claim(database, owner_name(dead_child(supervisor, of="listener")))
    look(supervisor)
    assert state_of(database, job).state == "running"


def test_dead_worker__though_the_database_fails(
    supervisor: Supervisor, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease ends by itself then; the supervisor goes on."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dicom_node.processes.supervisor.jobs.expire_all_of", fail)
    dead_child(supervisor, of="worker")
    look(supervisor)
    assert isinstance(next(iter(supervisor._children)), Child)
    assert next(iter(supervisor._children)).failures == 1


def test_owner__is_the_one_of_a_worker_process() -> None:
    program = "import os; from dicom_node.analysis.lease import owner_name; print(owner_name(os.getpid()))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate()[0].strip() == owner_name(process.pid)
