"""Row 22: ten worker processes and a thousand jobs (the short form: 150), each done once, on both databases."""

from __future__ import annotations

import multiprocessing
from collections import Counter

import pytest
from sqlalchemy import func, insert, select

from dicom_node.analysis import jobs
from dicom_node.database.connection import Database, open_database
from dicom_node.database.tables import Job, JobEvent, ResultRow, StudyRow
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now

pytestmark = pytest.mark.both_databases

WORKERS = 10


def add_jobs(database: Database, count: int) -> None:
    now = utc_now()
    uids = [f"1.2.{number}" for number in range(count)]
    study = {"state": "complete", "generation": 1, "first_received_at": now, "last_received_at": now}
    job = {"generation": 1, "state": "waiting", "priority": 0, "attempts": 0, "not_before": now, "created_at": now}
    with database.write() as session:
        session.execute(insert(StudyRow), [{"study_uid": uid, **study} for uid in uids])
        session.execute(insert(Job), [{"study_uid": uid, "heartbeat": 0, "reason": "", **job} for uid in uids])


def work(url: str, owner: str) -> None:
    """Claim and finish jobs until there are none: what a worker does, without an analysis between."""
    database = open_database(url)
    while True:
        with database.write() as session:
            claim = jobs.claim(session, owner, now=utc_now())
        if claim is None:
            database.close()
            return
        with database.write() as session:
            result = ResultRow(
                study_uid=claim.study_uid, generation=1, input_hash="a", model_digest="b", settings_digest="c",
                status="analysed", findings="{}", created_at=claim.created_at,
            )  # fmt: skip
            session.add(result)
            session.flush()
            jobs.succeed(session, claim, result_id=result.id, input_hash="a", detail="")


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.campaign)])
def test_ten_processes_do_each_job_once(database: Database, node_settings: NodeSettings, count: int) -> None:
    add_jobs(database, count)
    database.close()
    # The workers are forked: ten interpreters that each import everything would take most of the test's time.
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=work, args=(node_settings.database, f"w{number}"), daemon=True)
        for number in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    with database.read() as session:
        events = Counter(session.scalars(select(JobEvent.event)))
        owners = set(session.scalars(select(JobEvent.detail).where(JobEvent.event == "claimed")))
        assert session.scalar(select(func.count()).where(Job.state == "done", Job.attempts == 1)) == count
        assert session.scalar(select(func.count()).select_from(ResultRow)) == count
    assert events == {"claimed": count, "succeeded": count}
    assert len(owners) > 1
