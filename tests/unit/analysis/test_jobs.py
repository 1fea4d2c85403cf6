from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from dicom_node.alerts.record import open_alerts
from dicom_node.analysis import jobs
from dicom_node.analysis.jobs import TRANSITIONS, Claim, Event, LeaseWatch
from dicom_node.database.connection import Database
from dicom_node.database.tables import Job, ResultRow
from dicom_node.database.words import JobState
from dicom_node.errors import InvalidTransitionError, LeaseLostError
from dicom_node.images import studies
from dicom_node.system.clock import utc_now

pytestmark = pytest.mark.both_databases


def add_job(database: Database, study: str = "1.2") -> int:
    now = utc_now()
    with database.write() as session:
        row = studies.image_arrived(session, study, now)
        row.state = "complete"
        return jobs.enqueue(session, study, row.generation, now=now).id


def take(database: Database) -> Claim:
    with database.write() as session:
        claim = jobs.claim(session, "w1", now=utc_now())
    assert claim is not None
    return claim


def state_of(database: Database, job_id: int) -> Job:
    with database.read() as session:
        return session.get_one(Job, job_id)


def add_result(database: Database, study: str = "1.2") -> int:
    with database.write() as session:
        row = ResultRow(
            study_uid=study, generation=1, input_hash="a", model_digest="b", settings_digest="c", status="analysed",
            findings="{}", created_at=utc_now(),
        )  # fmt: skip
        session.add(row)
        session.flush()
        return row.id


def test_table__every_state_can_be_reached_and_left_as_designed() -> None:
    assert set(TRANSITIONS.values()) == set(JobState)
    assert [event for (state, event) in TRANSITIONS if state is JobState.DONE] == [Event.PURGED]
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_claim__takes_the_oldest_that_is_due(database: Database) -> None:
    first, second = add_job(database, "1.1"), add_job(database, "1.2")
    with database.write() as session:
        session.get_one(Job, first).not_before = utc_now() + timedelta(hours=1)
    assert take(database).job_id == second
    with database.write() as session:
        assert jobs.claim(session, "w2", now=utc_now()) is None


def test_claim__higher_priority_first(database: Database) -> None:
    add_job(database, "1.1")
    urgent = add_job(database, "1.2")
    with database.write() as session:
        session.get_one(Job, urgent).priority = 5
    assert take(database).job_id == urgent


def test_claim__two_workers_and_one_job(database: Database) -> None:
    add_job(database)
    start = threading.Barrier(2)

    def work(owner: int) -> Claim | None:
        start.wait()
        with database.write() as session:
            return jobs.claim(session, f"w{owner}", now=utc_now())

    with ThreadPoolExecutor(2) as pool:
        claims = list(pool.map(work, range(2)))
    assert claims.count(None) == 1


def test_enqueue__one_unfinished_job_for_a_study(database: Database) -> None:
    add_job(database)
    with pytest.raises(IntegrityError):
        add_job(database)


def test_succeed__ends_the_job_with_its_result(database: Database) -> None:
    job = add_job(database)
    claim, result = take(database), add_result(database)
    with database.write() as session:
        jobs.succeed(session, claim, result_id=result, input_hash="h", detail="analysed")
    row = state_of(database, job)
    assert (row.state, row.result_id, row.lease_token) == ("done", result, None)
    assert row.finished_at is not None
    with database.read() as session:
        assert [e.event for e in jobs.history(session, job)] == ["claimed", "succeeded"]


def test_fail__waits_and_then_gives_up_with_an_alert(database: Database) -> None:
    job = add_job(database)
    for attempt in (1, 2):
        claim = take(database)
        assert claim.attempts == attempt
        with database.write() as session:
            jobs.fail(session, claim, "out of memory", after=0, max_attempts=2)
    assert state_of(database, job).state == "failed"
    with database.read() as session:
        (alert,) = open_alerts(session)
        assert (alert.kind, alert.subject) == ("job_failed", "1.2")
    with database.write() as session:
        jobs.retry(session, job)
    assert take(database).attempts == 1
    with database.read() as session:
        assert not open_alerts(session)


def test_fail__the_pause_is_kept(database: Database) -> None:
    job = add_job(database)
    with database.write() as session:
        claim = jobs.claim(session, "w", now=utc_now())
        assert claim
        jobs.fail(session, claim, "later", after=60, max_attempts=5)
        assert jobs.claim(session, "w", now=utc_now()) is None
        assert jobs.claim(session, "w", now=utc_now() + timedelta(seconds=61)) is not None
    assert state_of(database, job).reason == "later"


def test_claim__what_waits_longer_than_any_pause_was_written_before_the_clock_was_set_back(database: Database) -> None:
    job = add_job(database)
    with database.write() as session:
        session.get_one(Job, job).not_before = utc_now() + timedelta(seconds=700)
        assert jobs.claim(session, "w", now=utc_now(), longest_pause_s=800) is None
        assert jobs.claim(session, "w", now=utc_now(), longest_pause_s=600) is not None


def test_finish__only_by_the_holder_of_the_lease(database: Database) -> None:
    add_job(database)
    lost = take(database)
    watch = LeaseWatch(10)
    with database.write() as session:
        assert watch.reclaim(session, max_attempts=5, monotonic=0) == []
        assert watch.reclaim(session, max_attempts=5, monotonic=11) == [lost.job_id]
    held = take(database)
    for finish in (
        lambda session: jobs.succeed(session, lost, result_id=1, input_hash="h", detail=""),
        lambda session: jobs.reject(session, lost, "no"),
        lambda session: jobs.hand_back(session, lost),
    ):
        with pytest.raises(LeaseLostError), database.write() as session:
            finish(session)
    with database.write() as session:
        assert not jobs.beat(session, lost)
        assert jobs.beat(session, held)


def test_reclaim__a_beating_worker_keeps_its_job(database: Database) -> None:
    add_job(database)
    claim = take(database)
    watch = LeaseWatch(10)
    for second in range(0, 60, 6):
        with database.write() as session:
            assert watch.reclaim(session, max_attempts=5, monotonic=second) == []
            jobs.beat(session, claim)


@pytest.mark.parametrize("jump", [timedelta(days=1), timedelta(days=-1)], ids=["forward", "back"])
def test_reclaim__a_clock_that_is_moved_takes_no_job_away(
    database: Database, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    job = add_job(database)
    claim = take(database)
    watch = LeaseWatch(10)
    moved = utc_now() + jump

    def reclaimed(second: float) -> list[int]:
        with database.write() as session:
            return watch.reclaim(session, max_attempts=5, monotonic=second)

    assert reclaimed(0) == []
    monkeypatch.setattr(jobs, "utc_now", lambda: moved)
    assert reclaimed(9) == []
    with database.write() as session:
        assert jobs.beat(session, claim)
    assert reclaimed(11) == []
    # Only silence on the monotonic clock ends the lease.
    assert reclaimed(22) == [job]


def test_reclaim__a_job_that_kills_its_workers_is_given_up(database: Database) -> None:
    job = add_job(database)
    for attempt in (1, 2):
        take(database)
        watch = LeaseWatch(1)
        with database.write() as session:
            watch.reclaim(session, max_attempts=2, monotonic=0)
            watch.reclaim(session, max_attempts=2, monotonic=2)
        assert state_of(database, job).state == ("waiting" if attempt == 1 else "failed")


def test_hand_back__does_not_count_as_an_attempt(database: Database) -> None:
    job = add_job(database)
    with database.write() as session:
        claim = jobs.claim(session, "w", now=utc_now())
        assert claim
        jobs.hand_back(session, claim)
    assert (state_of(database, job).state, state_of(database, job).attempts) == ("waiting", 0)


def test_retry__refuses_what_the_table_does_not_allow(database: Database) -> None:
    job = add_job(database)
    take(database)
    with pytest.raises(InvalidTransitionError, match="is running"), database.write() as session:
        jobs.retry(session, job)
    with pytest.raises(InvalidTransitionError, match="there is no job 99"), database.write() as session:
        jobs.retry(session, 99)


def test_database__a_running_job_has_a_lease(database: Database) -> None:
    job = add_job(database)
    with pytest.raises(IntegrityError), database.write() as session:
        session.scalars(select(Job).where(Job.id == job)).one().state = "running"


def test_newest__of_a_study_and_in_a_state(database: Database) -> None:
    first = add_job(database)
    result = add_result(database)
    held = take(database)
    with database.write() as session:
        jobs.succeed(session, held, result_id=result, input_hash="a", detail="")
    second, other = add_job(database), add_job(database, "1.3")
    with database.read() as session:
        newest, done = jobs.newest(session, "1.2"), jobs.newest(session, "1.2", state=JobState.DONE)
        assert (newest and newest.id, done and done.id) == (second, first)
        assert jobs.newest(session, "1.3", state=JobState.DONE) is None
        assert jobs.newest(session, "1.4") is None
        assert set(session.scalars(select(Job.id).where(Job.is_newest))) == {second, other}
