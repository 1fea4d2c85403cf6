"""A study is complete when as many images are here as the sender's archive has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dicom_node.alerts.record import open_alerts
from dicom_node.analysis import completion, jobs
from dicom_node.database.connection import Database
from dicom_node.database.tables import StudyRow
from dicom_node.images import studies
from dicom_node.images.store import InstanceStore
from dicom_node.processes.scheduler import Scheduler
from dicom_node.receiving.census import Census
from dicom_node.receiving.listener import StorageListener
from dicom_node.receiving.pull import Retriever
from dicom_node.settings.node import AnyArchive, NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.system.lifecycle import StopFlag
from tests.fakes.archive import FakeArchive, running_archive
from tests.fakes.datasets import STUDY, incoming, mr_image
from tests.fakes.scu import association, free_port, send
from tests.peers import ORTHANC, need, running_orthanc, wait_for

SERIES = f"{STUDY}.1"
Due = Callable[..., bool]


@pytest.fixture
def archive() -> Iterator[FakeArchive]:
    with running_archive() as running:
        yield running


def with_archive(settings: NodeSettings, port: int, **changes: Any) -> NodeSettings:
    """ROUTER sends, and its archive is at a port."""
    values = settings.model_dump()
    fetch = {key: changes.pop(key) for key in ("retrieve", "fetch_missing", "ae_title") if key in changes}
    partner = {"name": "pacs", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port, **fetch}
    peers = [{"ae_title": "ROUTER", "archive": "pacs"}, {"ae_title": "OTHER"}]
    values["delivery"] |= {"timeout_s": 1.0}
    for key, value in changes.items():
        values[key] |= value
    return NodeSettings(**{**values, "archives": [partner], "peers": peers})


def no_fetch(archive: AnyArchive, study_uid: str) -> None:
    raise AssertionError("nothing is to be fetched")


@pytest.fixture
def settings(node_settings: NodeSettings, archive: FakeArchive) -> NodeSettings:
    return with_archive(node_settings, archive.port)


@pytest.fixture
def census(settings: NodeSettings, database: Database) -> Census:
    return Census(settings, database, no_fetch)


def receive(settings: NodeSettings, database: Database, *numbers: int, sender: str = "ROUTER", **image: Any) -> None:
    store = InstanceStore.of(settings, database)
    for number in numbers:
        assert store.receive(incoming(mr_image(number, **image), calling_ae=sender)) == 0


def pass_time(database: Database, seconds: float) -> None:
    """Make it look as if everything had happened that much earlier."""
    with database.write() as session:
        row = session.get_one(StudyRow, STUDY)
        row.first_received_at -= timedelta(seconds=seconds)
        row.last_received_at -= timedelta(seconds=seconds)
        row.asked_at = row.asked_at and row.asked_at - timedelta(seconds=seconds)


def is_complete(settings: NodeSettings, database: Database) -> bool:
    Scheduler(settings, database).complete_studies()
    with database.read() as session:
        return session.get_one(StudyRow, STUDY).state == "complete"


def counts(database: Database) -> tuple[int | None, int | None]:
    with database.read() as session:
        row = session.get_one(StudyRow, STUDY)
        return row.images_here, row.images_expected


@pytest.mark.parametrize("gives_numbers", [True, False])
def test_census__complete_at_once_when_all_are_here(
    census: Census, archive: FakeArchive, settings: NodeSettings, database: Database, gives_numbers: bool
) -> None:
    archive.gives_numbers = gives_numbers
    # Our own report is in the study too, there.
    archive.series = {(STUDY, SERIES): ("MR", 4), (STUDY, f"{STUDY}.9"): ("SR", 1), ("1.2.9", "1.2.9.1"): ("MR", 7)}
    receive(settings, database, 1, 2)
    pass_time(database, 3)
    census.ask_due(settings.archives[0])
    assert counts(database) == (2, 4)
    assert not is_complete(settings, database)
    pass_time(database, 60)
    assert not is_complete(settings, database)
    receive(settings, database, 3, 4)
    pass_time(database, 3)
    census.ask_due(settings.archives[0])
    assert counts(database) == (4, 4)
    assert is_complete(settings, database)
    with database.read() as session:
        assert not open_alerts(session)
    assert archive.levels == (["SERIES"] * 2 if gives_numbers else ["SERIES", "IMAGE"] * 2)


def test_census__what_is_missing_after_the_longest_wait_is_said(
    census: Census, archive: FakeArchive, settings: NodeSettings, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.series = {(STUDY, SERIES): ("MR", 5), (STUDY, f"{STUDY}.2"): ("MR", 30)}
    receive(settings, database, 1, 2)
    pass_time(database, 3)
    census.ask_due(settings.archives[0])
    pass_time(database, 900)
    assert is_complete(settings, database)
    said = "2 of the 35 MR images that the sender's archive has came in time"
    with database.read() as session:
        (alert,) = open_alerts(session)
        assert (alert.kind, alert.subject, alert.detail) == ("incomplete_study", STUDY, said)
        assert [(event.event, event.detail) for event in jobs.history(session, 1)] == [("incomplete", said)]
    assert "study_complete" in capsys.readouterr().out


def test_census__asks_after_the_images_and_not_too_often(
    census: Census, archive: FakeArchive, settings: NodeSettings, database: Database
) -> None:
    archive.series = {(STUDY, SERIES): ("MR", 5)}
    receive(settings, database, 1)
    census.ask_due(settings.archives[0])
    assert not archive.levels
    pass_time(database, 3)
    census.ask_due(settings.archives[0])
    census.ask_due(settings.archives[0])
    assert len(archive.levels) == 1
    pass_time(database, 11)
    census.ask_due(settings.archives[0])
    assert len(archive.levels) == 2


def test_census__is_not_for_other_senders(
    census: Census, archive: FakeArchive, settings: NodeSettings, database: Database
) -> None:
    receive(settings, database, 1, sender="OTHER")
    pass_time(database, 31)
    census.ask_due(settings.archives[0])
    assert not archive.levels
    assert is_complete(settings, database)


@pytest.mark.parametrize("fault", ["down", "hangs", "refuses", "knows nothing", "nonsense"])
def test_census__without_an_answer_the_quiet_time_decides(
    fault: str, archive: FakeArchive, settings: NodeSettings, database: Database
) -> None:
    if fault == "down":
        settings = with_archive(settings, free_port())
    archive.delay_s = 2.0 if fault == "hangs" else 0.0
    archive.status = 0xA700 if fault == "refuses" else 0x0000
    archive.series = {(STUDY, SERIES): ("MR", 99)} if fault in ("hangs", "refuses") else {}
    if fault == "nonsense":
        archive.series = {(STUDY, SERIES): ("MR", -1)}
    census = Census(settings, database, no_fetch)
    receive(settings, database, 1)
    pass_time(database, 3)
    census.ask_due(settings.archives[0])
    assert counts(database) == (None, None)
    assert not is_complete(settings, database)
    pass_time(database, 30)
    assert is_complete(settings, database)


def test_census__a_silent_archive_does_not_hold_up_the_scheduler(
    archive: FakeArchive, node_settings: NodeSettings, database: Database
) -> None:
    archive.delay_s = 2.0
    settings = with_archive(node_settings, archive.port, study={"quiet_seconds": 0.2})
    receive(settings, database, 1)
    pass_time(database, 3)
    scheduler, stop = Scheduler(settings, database), StopFlag()
    Census(settings, database, no_fetch).start(stop)
    wait_for(lambda: archive.levels or None, timeout_s=10, what="a question")
    began = time.monotonic()
    scheduler.start()
    try:
        wait_for(lambda: is_complete(settings, database) or None, timeout_s=10, what="a complete study")
        assert time.monotonic() - began < 1.9
    finally:
        stop.set()
        scheduler.stop()


def test_census__late_images_are_counted_anew(
    census: Census, archive: FakeArchive, settings: NodeSettings, database: Database
) -> None:
    archive.series = {(STUDY, SERIES): ("MR", 2)}
    receive(settings, database, 1, 2)
    pass_time(database, 3)
    census.ask_due(settings.archives[0])
    assert is_complete(settings, database)
    archive.series = {(STUDY, SERIES): ("MR", 4)}
    receive(settings, database, 3)
    assert counts(database) == (None, None)
    pass_time(database, 3)
    census.ask_due(settings.archives[0])
    assert counts(database) == (3, 4)


# ---------------------------------------------------------------- fetching


def test_fetch__once_and_after_the_quiet_time(
    archive: FakeArchive, node_settings: NodeSettings, database: Database
) -> None:
    settings = with_archive(node_settings, archive.port, fetch_missing=True)
    fetched: list[str] = []
    census = Census(settings, database, lambda archive, study: fetched.append(study))
    archive.series = {(STUDY, SERIES): ("MR", 2)}
    receive(settings, database, 1)
    pass_time(database, 3)
    census.ask_due(settings.archives[0])
    census.fetch_due(settings.archives[0])
    assert not fetched
    pass_time(database, 30)
    for _ in range(2):
        census.fetch_due(settings.archives[0])
    assert fetched == [STUDY]


@pytest.mark.orthanc
@need(ORTHANC)
def test_orthanc__says_what_is_missing_and_sends_it(
    node_settings: NodeSettings, database: Database, tmp_path: Path
) -> None:
    port = free_port()
    more = {
        "DicomModalities": {"spineone": ["SPINEONE", "127.0.0.1", port]},
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
    }
    images = [mr_image(number) for number in range(1, 7)]
    report = mr_image(9, series=f"{STUDY}.9")
    report.Modality = "OT"
    with running_orthanc(tmp_path / "pacs", more=more) as orthanc:
        assert send(orthanc.port, *images, report, called=orthanc.ae_title) == [0] * 7
        settings = with_archive(
            node_settings, orthanc.port, fetch_missing=True, ae_title=orthanc.ae_title,
            listener={"port": port}, study={"quiet_seconds": 1.0},
        )  # fmt: skip
        listener = StorageListener(settings, database, InstanceStore.of(settings, database))
        listener.start()
        scheduler, stop = Scheduler(settings, database), StopFlag()
        pull = lambda archive, study: Retriever(settings, database, archive).pull(study, "MR")  # noqa: E731
        try:
            assert send(port, *images[:4], calling="ROUTER") == [0] * 4
            Census(settings, database, pull).ask_due(settings.archives[0])
            Census(settings, database, pull).start(stop)
            wait_for(lambda: counts(database) == (6, 6) or None, timeout_s=30, what="the missing images")
            scheduler.start()
            wait_for(lambda: is_complete(settings, database) or None, timeout_s=10, what="a complete study")
        finally:
            stop.set()
            scheduler.stop()
            listener.stop()
    with database.read() as session:
        assert not open_alerts(session)
        assert len(jobs.history(session, 1)) == 0


# ---------------------------------------------------------------- release


def test_release__the_quiet_time_is_shorter_after_it(node_settings: NodeSettings, database: Database) -> None:
    values = node_settings.model_dump()
    values["study"] |= {"quiet_seconds": 60, "quiet_seconds_after_release": 0.0}
    values["listener"] |= {"port": free_port()}
    settings = NodeSettings(**values)
    listener = StorageListener(settings, database, InstanceStore.of(settings, database))
    listener.start()
    try:
        with association(listener.port) as first, association(listener.port) as second:
            assert first.send_c_store(mr_image(1)).Status == 0
            assert second.send_c_store(mr_image(2)).Status == 0
            first.release()
            time.sleep(0.3)
            # The second one may bring more of the same study.
            assert not is_complete(settings, database)
            second.abort()
            time.sleep(0.3)
            # A sender that was cut off has not said that it is done.
            assert not is_complete(settings, database)
        assert send(listener.port, mr_image(3)) == [0]
        wait_for(lambda: is_complete(settings, database) or None, timeout_s=5, what="a complete study")
        assert not listener.brought
        # Its sender left before the answer, so its end was seen before what it brought.
        listener.note_study(first, "1.2.99")
        with association(listener.port) as third:
            assert third.send_c_store(mr_image(4)).Status == 0
            assert list(listener.brought.values()) == [{STUDY}]
    finally:
        listener.stop()


def test_release__an_image_after_it_begins_the_quiet_time_again(database: Database) -> None:
    now = utc_now()

    def due(seconds: float) -> bool:
        with database.write() as session:
            rules = {"quiet_seconds": 30, "max_wait_seconds": 900, "quiet_seconds_after_release": 5}
            return bool(completion.complete_due(session, now=now + timedelta(seconds=seconds), **rules))  # type: ignore[arg-type]

    with database.write() as session:
        studies.image_arrived(session, STUDY, now)
        studies.sender_released(session, [STUDY], now)
        studies.image_arrived(session, STUDY, now + timedelta(seconds=2))
    assert not due(10)
    with database.write() as session:
        studies.sender_released(session, [STUDY], now + timedelta(seconds=11))
    assert not due(15)
    assert due(17)
