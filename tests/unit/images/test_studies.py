from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from dicom_node.analysis import completion, jobs
from dicom_node.analysis.jobs import Claim
from dicom_node.database.connection import Database
from dicom_node.database.tables import Job, ResultRow, StudyRow
from dicom_node.database.words import StudyState
from dicom_node.errors import InvalidTransitionError
from dicom_node.images import studies
from dicom_node.images.studies import TRANSITIONS, StudyEvent
from dicom_node.system.clock import utc_now

pytestmark = pytest.mark.both_databases

START = utc_now()


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def arrive(database: Database, seconds: float, study: str = "1.2") -> None:
    with database.write() as session:
        studies.image_arrived(session, study, at(seconds))


def due(database: Database, seconds: float) -> list[str]:
    with database.write() as session:
        closed = completion.complete_due(session, now=at(seconds), quiet_seconds=30, max_wait_seconds=100)
        return [row.study_uid for row in closed]


def claimed(database: Database) -> Claim:
    with database.write() as session:
        claim = jobs.claim(session, "w", now=at(10_000))
    assert claim
    return claim


def finish(database: Database) -> None:
    end(database, claimed(database))


def end(database: Database, claim: Claim) -> None:
    with database.write() as session:
        result = ResultRow(
            study_uid=claim.study_uid, generation=claim.generation, input_hash=str(claim.job_id), model_digest="b",
            settings_digest="c", status="analysed", findings="{}", created_at=utc_now(),
        )  # fmt: skip
        session.add(result)
        session.flush()
        jobs.succeed(session, claim, result_id=result.id, input_hash="h", detail="")


def generations(database: Database) -> list[int]:
    with database.read() as session:
        return list(session.scalars(select(Job.generation).order_by(Job.id)))


def test_complete__after_the_quiet_time_and_only_once(database: Database) -> None:
    arrive(database, 0)
    arrive(database, 20)
    assert due(database, 49) == []
    assert due(database, 51) == ["1.2"]
    assert due(database, 60) == []
    finish(database)
    assert due(database, 70) == []
    assert generations(database) == [1]


def test_complete__after_the_longest_wait_though_images_still_come(database: Database) -> None:
    for second in range(0, 100, 10):
        arrive(database, second)
        assert due(database, second) == []
    assert due(database, 100) == ["1.2"]


def test_complete__though_the_clock_was_set_back(database: Database) -> None:
    arrive(database, 86400)
    assert due(database, 0) == ["1.2"]


def test_late_image__opens_a_new_generation_and_a_new_job(database: Database) -> None:
    arrive(database, 0)
    due(database, 31)
    finish(database)
    arrive(database, 200)
    assert due(database, 229) == []
    assert due(database, 231) == ["1.2"]
    assert generations(database) == [1, 2]


def test_late_image__waits_for_the_end_of_the_running_job(database: Database) -> None:
    arrive(database, 0)
    due(database, 31)
    claim = claimed(database)
    arrive(database, 40)
    assert due(database, 500) == []
    end(database, claim)
    assert due(database, 501) == ["1.2"]


def test_late_image__its_job_takes_the_place_of_one_that_nobody_has_begun(database: Database) -> None:
    arrive(database, 0)
    due(database, 31)
    arrive(database, 40)
    with database.write() as session:
        # Half of a series might be read now.
        assert jobs.claim(session, "w", now=at(41)) is None
    assert due(database, 71) == ["1.2"]
    with database.read() as session:
        first, second = session.scalars(select(Job).order_by(Job.id))
        assert (first.state, first.is_newest, first.result_id) == ("done", False, None)
        assert [event.event for event in jobs.history(session, first.id)] == ["superseded"]
        assert (second.state, second.generation, second.is_newest) == ("waiting", 2, True)
    assert claimed(database).job_id == second.id


def test_table__names_every_state_and_every_event() -> None:
    assert set(TRANSITIONS.values()) == set(StudyState)
    assert {event for _, event in TRANSITIONS} == set(StudyEvent)


def test_close__a_complete_study_cannot_be_closed_again(database: Database) -> None:
    arrive(database, 0)
    with database.write() as session:
        studies.close(session.get_one(StudyRow, "1.2"))
    with pytest.raises(InvalidTransitionError, match=r"study 1\.2 is complete"), database.write() as session:
        studies.close(session.get_one(StudyRow, "1.2"))
