"""An exam that comes series by series, with the settings that a new node has: one result, and no word before it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.analysis import completion, jobs, worker
from dicom_node.analysis.by_hand import analyse_by_hand
from dicom_node.analysis.waiting import wait_until
from dicom_node.analysis.worker import Worker
from dicom_node.database.connection import Database
from dicom_node.database.tables import Job, OutboxRow, ResultRow, StudyRow
from dicom_node.health import metrics, overview, studies
from dicom_node.health.metrics import NodeCollector
from dicom_node.images import store
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.study_rules import StudyRules
from dicom_node.system.clock import utc_now
from spineone_core.findings import Reason
from tests.fakes.datasets import STUDY, mr_image
from tests.fakes.detector import FakeDetector
from tests.fakes.still_node import StillNode

EXAM = {"localiser": 3, "t2_tse_sag": 5, "t1_tse_sag": 5, "t1_ax": 4}


def series(description: str, number: int) -> list[Dataset]:
    images = [mr_image(10 * number + i, series=f"{STUDY}.{number}") for i in range(EXAM[description])]
    for image in images:
        image.SeriesDescription = description
    return images


class Day:
    """A node with a new node's rules on time, and a clock that a test moves. Every look at the time is this clock's."""

    def __init__(self, node: StillNode, patch: pytest.MonkeyPatch) -> None:
        self.node = node
        self.rules = StudyRules()
        self.node.settings = NodeSettings(**{**node.settings.model_dump(), "study": self.rules})
        self.start = utc_now()
        self.at = 0.0
        self.detector = FakeDetector()
        for module in (store, worker, jobs, metrics):
            patch.setattr(module, "utc_now", self.now)

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.at)

    def until(self, second: float) -> None:
        """Let time pass; a new worker looks for a job after each turn of the timer that closes studies, as after a restart."""
        while self.at < second:
            self.at += 5
            with self.node.database.write() as session:
                rules = {"quiet_seconds": self.rules.quiet_seconds, "max_wait_seconds": self.rules.max_wait_seconds}
                completion.complete_due(session, now=self.now(), **rules)
            Worker(self.node.settings, self.node.database, self.detector).run_once()

    def jobs(self) -> list[tuple[int, str, str | None]]:
        with self.node.database.read() as session:
            rows = session.scalars(select(Job).order_by(Job.id))
            return [(job.generation, job.outcome or job.state, job.cause) for job in rows]

    def parcels(self) -> int:
        with self.node.database.read() as session:
            return len(session.scalars(select(OutboxRow)).all())

    def metric(self, name: str) -> float:
        families = NodeCollector(self.node.settings, self.node.database).collect()
        return float(next(family for family in families if family.name == name).samples[0].value)

    def shown(self) -> dict[str, Any]:
        with self.node.database.read() as session:
            (study,) = overview.status(session, self.node.settings)["studies"]
        return dict(study)


@pytest.fixture
def day(database: Database, node_settings: NodeSettings, monkeypatch: pytest.MonkeyPatch) -> Day:
    return Day(StillNode.with_a_destination(database, node_settings), monkeypatch)


@pytest.mark.parametrize("gap", [30, 45])
def test_series_by_series__one_result_and_no_word_before_it(day: Day, gap: float) -> None:
    for number, description in enumerate(EXAM, start=1):
        day.node.receive(*series(description, number))
        day.until(day.at + gap)
    day.until(day.at + 2000)
    causes = [cause for _, _, cause in day.jobs() if cause]
    assert (causes[0], set(causes[1:])) == ("first", {"unchanged"})
    assert (len(day.node.reports()), day.parcels(), day.node.alerts()) == (1, 3, {})
    assert day.shown()["state"] == "analysed"


def test_localiser_first__waits_with_its_reason_and_is_superseded_in_silence(day: Day) -> None:
    day.node.receive(*series("localiser", 1))
    day.until(60)
    study = day.shown()
    assert study["state"] == "waiting"
    assert study["reason"].startswith("waits for a series until ")
    assert study["reason"].endswith(" UTC; so far no_sagittal_t2: no series says t2")
    assert (day.parcels(), day.detector.readings, day.node.alerts()) == (0, 1, {})
    with day.node.database.read() as session:
        (job,) = studies.detail(session, STUDY)["jobs"]
    assert job["selection"]["reason"] == "no_sagittal_t2"
    # It is no backlog, so nobody is called.
    assert (day.metric("spineone_jobs_put_off"), day.metric("spineone_oldest_waiting_job_seconds")) == (1, 0)
    day.node.receive(*series("t2_tse_sag", 2))
    day.until(100)
    assert day.jobs() == [(1, "done", None), (2, "analysed", "first")]
    assert (day.parcels(), day.node.alerts()) == (3, {})
    assert json.loads(day.node.findings())["generation"] == 2


def test_nothing_more_comes__it_is_said_after_the_wait_and_once(day: Day) -> None:
    day.node.receive(*series("localiser", 1))
    day.until(day.rules.wait_for_series_seconds - 5)
    assert (day.parcels(), day.jobs()) == (0, [(1, "waiting", None)])
    day.until(day.rules.wait_for_series_seconds + 5)
    assert (day.parcels(), day.jobs()) == (1, [(1, "not_analysable", "first")])
    day.node.receive(*series("t1_tse_sag", 3))
    day.until(3000)
    assert (day.parcels(), len(day.node.reports()), day.node.alerts()) == (1, 1, {})


def test_a_person_does_not_wait(day: Day) -> None:
    day.node.receive(*series("localiser", 1))
    day.until(60)
    with day.node.database.write() as session:
        assert analyse_by_hand(session, STUDY, now=day.now()) == 1
    day.until(65)
    assert day.jobs() == [(1, "not_analysable", "by_hand")]
    assert json.loads(day.node.findings())["cause"] == "by_hand"


def test_retry__does_not_wait_either(day: Day) -> None:
    day.node.receive(*series("localiser", 1))
    day.until(60)
    with day.node.database.write() as session:
        jobs.retry(session, 1)
    day.until(65)
    assert day.jobs() == [(1, "not_analysable", "first")]


def study_row(**values: Any) -> StudyRow:
    return StudyRow(study_uid=STUDY, last_received_at=utc_now(), **values)


@pytest.mark.parametrize(
    ("expected", "here", "seconds"), [(None, None, 600), (30, 20, 600), (30, 30, 30), (30, 31, 30)]
)
def test_wait__is_short_where_the_archive_says_that_all_is_here(
    expected: int | None, here: int | None, seconds: float
) -> None:
    study = study_row(images_expected=expected, images_here=here)
    until = wait_until(study, Reason.NO_SAGITTAL_T2, StudyRules(), study.last_received_at)
    assert until == study.last_received_at + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "reason", [None, Reason.TIME_LIMIT, Reason.UNWRITABLE, Reason.INVALID_OUTPUT, Reason.UNREADABLE_PIXELS]
)
def test_wait__only_for_what_a_series_can_cure(reason: Reason | None) -> None:
    study = study_row()
    assert wait_until(study, reason, StudyRules(), study.last_received_at) is None


def test_wait__is_not_prolonged_by_a_clock_that_was_set_back() -> None:
    study, rules = study_row(), StudyRules()
    now = study.last_received_at - timedelta(days=1)
    assert wait_until(study, Reason.NOT_LUMBAR, rules, now) == now + timedelta(seconds=rules.wait_for_series_seconds)


def test_wait__is_a_good_part_of_the_longest_wait() -> None:
    rules = StudyRules()
    assert 0.5 <= rules.wait_for_series_seconds / rules.max_wait_seconds < 1


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"PatientID": "RIGHT"}, "corrected_patient"),
        ({"PatientName": "RIGHT^NAME"}, "corrected_patient"),
        ({"AccessionNumber": "A-2"}, "new_accession"),
        ({"StudyDescription": "L-Spine"}, "changed_images"),
        ({"SeriesInstanceUID": f"{STUDY}.8"}, "changed_series"),
    ],
)
def test_cause__stands_in_the_findings_of_a_later_result(
    database: Database, node_settings: NodeSettings, changes: dict[str, str], cause: str
) -> None:
    node = StillNode.with_a_destination(database, node_settings)
    node.receive(*series("t2_tse_sag", 2))
    node.work()
    first = json.loads(node.findings())
    assert (first["generation"], first["cause"]) == (1, "first")
    corrected = series("t2_tse_sag", 2)
    for image in corrected:
        for keyword, value in changes.items():
            setattr(image, keyword, value)
    node.receive(*corrected)
    assert node.work().cause == cause
    second = json.loads(node.findings())
    assert (second["generation"], second["cause"]) == (2, cause)
    with database.read() as session:
        newest = session.scalars(select(ResultRow).order_by(ResultRow.id.desc())).first()
        assert newest is not None
        assert json.loads(newest.findings) == second
