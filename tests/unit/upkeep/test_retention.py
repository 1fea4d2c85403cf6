from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from dicom_node.alerts.record import open_alerts
from dicom_node.analysis import completion, jobs
from dicom_node.analysis.worker import Worker
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, Job, OutboxRow, StudyRow
from dicom_node.images.reconcile import reconcile
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.upkeep.retention import Retention
from dicom_node.upkeep.verify import verify_files
from tests.fakes import audit
from tests.fakes.analyses import analyse_next
from tests.fakes.datasets import STUDY, incoming, mr_image
from tests.fakes.detector import FakeDetector

pytestmark = pytest.mark.both_databases
DESTINATIONS = [{"name": n, "ae_title": n.upper(), "host": "127.0.0.1", "port": 1} for n in ("pacs", "second")]


def with_rules(settings: NodeSettings, **rules: object) -> NodeSettings:
    values = settings.model_dump()
    return NodeSettings(**{**values, "retention": {**values["retention"], **rules}})


@pytest.fixture
def settings(node_settings: NodeSettings) -> NodeSettings:
    return with_rules(NodeSettings(**{**node_settings.model_dump(), "destinations": DESTINATIONS}), keep_days=30)


@pytest.fixture
def store(database: Database, settings: NodeSettings) -> InstanceStore:
    return InstanceStore(database, settings.data_dir)


def receive(database: Database, store: InstanceStore, *numbers: int, study: str = STUDY) -> None:
    """Images, and the quiet time after them."""
    for number in numbers:
        assert store.receive(incoming(mr_image(number, study=study))) == 0
    with database.write() as session:
        later = utc_now() + timedelta(hours=1)
        completion.complete_due(session, now=later, quiet_seconds=1, max_wait_seconds=1)
        session.execute(update(Job).values(not_before=utc_now()))


def analyse(database: Database, settings: NodeSettings) -> None:
    assert Worker(settings, database, FakeDetector()).run_once()


def grow_old(database: Database, days: int = 31) -> None:
    with database.write() as session:
        session.execute(update(StudyRow).values(last_received_at=utc_now() - timedelta(days=days)))


def mark(database: Database, **values: object) -> None:
    with database.write() as session:
        session.execute(update(OutboxRow).values(**values))


@pytest.fixture
def safe(database: Database, settings: NodeSettings, store: InstanceStore) -> None:
    """A study whose result every destination proved to keep."""
    receive(database, store, *range(1, 6))
    analyse_next(database, settings)
    mark(database, state="sent", proof="committed")
    grow_old(database)


def files(settings: NodeSettings) -> list[Path]:
    return [path for path in (settings.data_dir / "instances").rglob("*") if path.is_file()]


def kinds(database: Database) -> list[str]:
    with database.read() as session:
        return [alert.kind for alert in open_alerts(session)]


def test_purge__deletes_files_and_says_so_in_the_history(
    database: Database, settings: NodeSettings, safe: None
) -> None:
    Retention(settings, database).purge_due()
    assert files(settings) == []
    assert list((settings.data_dir / "instances").iterdir()) == []
    with database.read() as session:
        job = session.scalars(select(Job)).one()
        last = jobs.history(session, job.id)[-1]
        finished = job.finished_at
    assert (last.event, last.from_state, last.to_state) == ("purged", "done", "done")
    assert last.detail.startswith("5 files, ")
    assert finished is not None
    assert finished < last.at
    # The results stay.
    assert len(list((settings.data_dir / "results").rglob("*.dcm"))) >= 2
    assert list(verify_files(database, settings.data_dir)) == []
    assert Retention(settings, database).older_than(0) == []
    (message,) = audit.of_event(audit.messages(settings.data_dir), "110105")
    assert sum(audit.classes(message).values()) == 5
    assert audit.requestor(message) == "SPINEONE"


def test_purge__waits_for_the_age(database: Database, settings: NodeSettings, safe: None) -> None:
    grow_old(database, 29)
    Retention(settings, database).purge_due()
    assert len(files(settings)) == 5
    Retention(with_rules(settings, keep_days=0), database).purge_due()
    assert len(files(settings)) == 5


@pytest.mark.parametrize(
    ("values", "evidence", "why"),
    [
        ({"state": "waiting"}, "analysed", "a result has not reached pacs, second"),
        ({"state": "failed"}, "sent", "a result has not reached pacs, second"),
        ({"proof": "asked"}, "proven", "no proof that pacs, second keeps the result"),
        ({"proof": "none"}, "proven", "no proof that pacs, second keeps the result"),
        ({"proof": "none"}, "sent", ""),
        ({"proof": "found"}, "proven", ""),
    ],
)
def test_purge__goes_by_the_evidence(
    database: Database, settings: NodeSettings, safe: None, values: dict[str, str], evidence: str, why: str
) -> None:
    mark(database, **values)
    retention = Retention(with_rules(settings, evidence=evidence), database)
    assert retention.judge(STUDY).kept_because == why
    assert retention.purge(STUDY).kept_because == why
    assert len(files(settings)) == (5 if why else 0)


def test_purge__one_destination_without_proof_is_enough_to_keep(
    database: Database, settings: NodeSettings, safe: None
) -> None:
    with database.write() as session:
        row = session.scalars(select(OutboxRow).where(OutboxRow.destination == "second").limit(1)).one()
        row.proof = "wanted"
    assert Retention(settings, database).purge(STUDY).kept_because == "no proof that second keeps the result"


def test_purge__keeps_what_is_not_analysed(database: Database, settings: NodeSettings, store: InstanceStore) -> None:
    retention = Retention(with_rules(settings, evidence="analysed"), database)
    assert store.receive(incoming(mr_image(1))) == 0
    assert retention.purge(STUDY).kept_because == "its images are still coming"
    receive(database, store, 2)
    assert retention.purge(STUDY).kept_because == "it has no result yet"
    with database.write() as session:
        claim = jobs.claim(session, "w", now=utc_now())
        assert claim
        jobs.reject(session, claim, "broken")
    assert retention.purge(STUDY).kept_because == "its analysis failed"
    assert retention.purge("1.2.3").kept_because == "there is nothing on disk"
    assert len(files(settings)) == 2


def test_purge__a_result_without_destinations_goes_only_when_the_settings_say_so(
    database: Database, settings: NodeSettings, store: InstanceStore
) -> None:
    alone = NodeSettings(**{**settings.model_dump(), "destinations": []})
    receive(database, store, *range(1, 6))
    analyse_next(database, alone)
    assert Retention(alone, database).purge(STUDY).kept_because == "its result has no destination"
    assert Retention(with_rules(alone, evidence="analysed"), database).purge(STUDY).kept_because == ""


def test_purge__only_what_was_to_be_sent_needs_evidence(
    database: Database, settings: NodeSettings, store: InstanceStore
) -> None:
    """A result that no destination gets, and a study that a rule keeps."""
    silent = NodeSettings(**{**settings.model_dump(), "destinations": [{**DESTINATIONS[0], "results": ["key_object"]}]})
    receive(database, store, *range(1, 6))
    analyse_next(database, silent)
    assert Retention(silent, database).purge(STUDY).kept_because == ""
    rule = {"name": "all", "action": "keep", "modality": "MR"}
    keeping = NodeSettings(**{**settings.model_dump(), "rules": [rule]})
    receive(database, store, *range(1, 6), study="1.2.3")
    analyse(database, keeping)
    assert Retention(keeping, database).purge("1.2.3").kept_because == ""


def test_pressure__takes_the_oldest_and_no_more_than_needed(
    database: Database, settings: NodeSettings, store: InstanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, study in ((1, "1.2.1"), (3, "1.2.3"), (2, "1.2.2")):
        receive(database, store, *range(1, 6), study=study)
        analyse_next(database, settings)
        with database.write() as session:
            session.get_one(StudyRow, study).last_received_at = utc_now() - timedelta(days=age)
    mark(database, state="sent", proof="found")
    free = iter([4, 4, 6])

    class Usage:
        @property
        def free(self) -> int:
            return next(free) * 1_000_000_000

    retention = Retention(with_rules(settings, purge_below_gb=5), database)
    monkeypatch.setattr("dicom_node.upkeep.retention.shutil.disk_usage", lambda path: Usage())
    retention.purge_due()
    monkeypatch.undo()
    assert retention.older_than(0) == ["1.2.2", "1.2.1"]


def test_late_images__of_a_purged_study_are_never_analysed_alone(
    database: Database, settings: NodeSettings, store: InstanceStore, safe: None
) -> None:
    Retention(settings, database).purge_due()
    receive(database, store, 6)
    analyse(database, settings)
    assert kinds(database) == ["job_failed"]
    with database.read() as session:
        assert (
            "5 images of the study were deleted" in session.scalars(select(Job).order_by(Job.id.desc())).first().reason
        )  # type: ignore[union-attr]
    # All images come again: they are analysed as one study, and kept as before.
    receive(database, store, *range(1, 6))
    analyse(database, settings)
    assert kinds(database) == []
    assert len(files(settings)) == 6
    with database.read() as session:
        assert session.scalars(select(Instance.purged_at)).all() == [None] * 6


def test_the_same_study_again__has_the_same_result(
    database: Database, settings: NodeSettings, store: InstanceStore, safe: None
) -> None:
    Retention(settings, database).purge_due()
    with database.read() as session:
        before = len(session.scalars(select(OutboxRow)).all())
    receive(database, store, *range(1, 6))
    analyse(database, settings)
    with database.read() as session:
        assert len(session.scalars(select(OutboxRow)).all()) == before
        first, second = session.scalars(select(Job).order_by(Job.id))
    assert first.result_id == second.result_id


def test_crash__between_mark_and_deletion_is_finished_at_the_next_start(
    database: Database, settings: NodeSettings, store: InstanceStore, safe: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dicom_node.upkeep.retention.delete_purged", crash)
        with pytest.raises(KeyboardInterrupt):
            Retention(settings, database).purge_due()
    assert len(files(settings)) == 5
    # An image that comes again in between is received as new, not called a duplicate of a file that is about to go.
    receive(database, store, 3)
    reconcile(database, InstanceStore(database, settings.data_dir))
    assert [path.name.split("-")[0] for path in files(settings)] == [str(mr_image(3).SOPInstanceUID)]
    assert kinds(database) == []
