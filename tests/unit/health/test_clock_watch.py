"""What becomes of a wrong clock: an alert, a node that is not ready, and a person's word that the time is right."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from dicom_node.alerts.record import acknowledge, open_alerts
from dicom_node.analysis import jobs
from dicom_node.analysis.worker import Worker
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert, Instance
from dicom_node.delivery.deliverer import Delivery
from dicom_node.health import clock_watch
from dicom_node.health.clock_watch import ClockWatch, settle_clock
from dicom_node.health.readiness import checks
from dicom_node.images.folders import prepare_folders
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import Destination
from dicom_node.system import clock as clocks
from dicom_node.system.clock import clock, utc_now
from dicom_node.system.clock_record import read_record
from dicom_node.upkeep.retention import Retention
from tests.fakes.datasets import incoming, mr_image
from tests.fakes.detector import FakeDetector
from tests.unit.analysis.test_jobs import add_job

DAY = 86400.0


class TimeOfDay:
    """How far the machine's time of day is off (seconds)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.off_s = 0.0
        right: Callable[[], float] = time.time
        monkeypatch.setattr(clocks.time, "time", lambda: right() + self.off_s)


@pytest.fixture
def day(monkeypatch: pytest.MonkeyPatch) -> TimeOfDay:
    monkeypatch.setattr(clock_watch, "_SETTLED_S", 0.0)
    return TimeOfDay(monkeypatch)


@pytest.fixture
def watch(node_settings: NodeSettings, database: Database, day: TimeOfDay) -> ClockWatch:
    """The watch of a process that has started with the right time."""
    prepare_folders(node_settings.data_dir)
    return started(node_settings, database)


def started(settings: NodeSettings, database: Database) -> ClockWatch:
    clock.set(None)
    settle_clock(settings.data_dir, database)
    watch = ClockWatch(settings.data_dir, database)
    watch.look()
    return watch


def alerts(database: Database) -> list[Alert]:
    with database.read() as session:
        return list(open_alerts(session))


def is_ready(settings: NodeSettings, database: Database) -> bool:
    return next(check.is_well for check in checks(settings, database) if check.name == "clock")


@pytest.mark.both_databases
@pytest.mark.parametrize("off_s", [-DAY, -3600.0, DAY, 3650 * DAY])
def test_jump__is_an_alert_until_the_time_is_back(
    node_settings: NodeSettings, database: Database, day: TimeOfDay, watch: ClockWatch, off_s: float
) -> None:
    before = utc_now()
    day.off_s = off_s
    watch.look()
    watch.look()
    (alert,) = alerts(database)
    assert (alert.kind, alert.count) == ("clock", 1)
    assert alert.detail.startswith("the time of day is ")
    # The alert itself has the right date.
    assert timedelta() <= alert.opened_at - before < timedelta(minutes=1)
    assert not is_ready(node_settings, database)
    day.off_s = 0
    watch.look()
    assert alerts(database) == []
    assert is_ready(node_settings, database)


def test_small_steps__are_nothing_to_tell(database: Database, day: TimeOfDay, watch: ClockWatch) -> None:
    for off_s in (200.0, 400.0, 100.0, -150.0):
        day.off_s = off_s
        watch.look()
    assert alerts(database) == []


def test_acknowledged__the_time_is_right_for_every_process_and_after_a_restart(
    node_settings: NodeSettings, database: Database, day: TimeOfDay, watch: ClockWatch
) -> None:
    true_anchor = clock.anchor
    day.off_s = DAY
    watch.look()
    with database.write() as session:
        assert acknowledge(session, alerts(database)[0].id)
    watch.look()
    assert clock.fault() == ""
    assert utc_now() > datetime.now(UTC) - timedelta(minutes=1)
    assert alerts(database) == []
    # Another process still counts from the old time.
    clock.set(true_anchor)
    other = ClockWatch(node_settings.data_dir, database)
    assert clock.fault()
    other.look()
    assert clock.fault() == ""
    assert alerts(database) == []
    started(node_settings, database)
    assert clock.fault() == ""
    # And back: that is a jump like any other.
    day.off_s = 0
    other.look()
    assert [alert.kind for alert in alerts(database)] == ["clock"]


def test_start__after_a_jump_knows_the_right_time(
    node_settings: NodeSettings, database: Database, day: TimeOfDay, watch: ClockWatch
) -> None:
    before = utc_now()
    day.off_s = 3650 * DAY
    started(node_settings, database)
    assert [alert.kind for alert in alerts(database)] == ["clock"]
    assert utc_now() - before < timedelta(minutes=1)


def restart_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.system.clock_record.boot_id", lambda: "another start")


@pytest.mark.parametrize("off_s", [-20_000 * DAY, -DAY, 31 * DAY])
def test_start_of_the_machine__with_a_clock_that_cannot_be_right(
    node_settings: NodeSettings,
    database: Database,
    day: TimeOfDay,
    watch: ClockWatch,
    monkeypatch: pytest.MonkeyPatch,
    off_s: float,
) -> None:
    before = utc_now()
    restart_machine(monkeypatch)
    day.off_s = off_s
    watch = started(node_settings, database)
    assert [alert.kind for alert in alerts(database)] == ["clock"]
    # What comes meanwhile is not dated before what came last.
    assert timedelta(seconds=-1) < utc_now() - before < timedelta(minutes=1)
    # The network's time arrives: an hour has passed since the node was stopped.
    day.off_s = 3600
    watch.look()
    assert alerts(database) == []
    assert read_record(node_settings.data_dir).anchor() is not None
    day.off_s = DAY
    watch.look()
    assert [alert.kind for alert in alerts(database)] == ["clock"]


def test_start_of_the_machine__with_the_right_time(
    node_settings: NodeSettings,
    database: Database,
    day: TimeOfDay,
    watch: ClockWatch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restart_machine(monkeypatch)
    day.off_s = 10 * DAY
    started(node_settings, database)
    assert alerts(database) == []


def test_start_without_a_record__goes_by_the_newest_row(
    node_settings: NodeSettings, database: Database, day: TimeOfDay
) -> None:
    prepare_folders(node_settings.data_dir)
    add_job(database)
    with database.write() as session:
        assert jobs.claim(session, "w", now=utc_now()) is not None
    day.off_s = -20_000 * DAY
    watch = started(node_settings, database)
    assert [alert.kind for alert in alerts(database)] == ["clock"]
    # Somebody says that the clock is right and the rows are not: they say nothing from then on.
    with database.write() as session:
        acknowledge(session, alerts(database)[0].id)
    watch.look()
    assert alerts(database) == []
    with pytest.MonkeyPatch.context() as patch:
        restart_machine(patch)
        started(node_settings, database)
    assert alerts(database) == []


def test_while_the_clock_is_wrong__images_are_kept_and_nothing_is_analysed_sent_or_deleted(
    node_settings: NodeSettings,
    database: Database,
    day: TimeOfDay,
    watch: ClockWatch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = InstanceStore(database, node_settings.data_dir)
    add_job(database)
    day.off_s = 3650 * DAY
    before = utc_now()
    assert store.receive(incoming(mr_image())) == 0
    with database.read() as session:
        (row,) = session.scalars(select(Instance))
    assert timedelta() <= row.received_at - before < timedelta(minutes=1)
    assert not Worker(node_settings, database, FakeDetector()).run_once()
    retention = Retention(node_settings, database)
    assert retention.judge(row.study_uid).kept_because.startswith("the time of day is ")

    asked: list[str] = []
    pacs = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
    monkeypatch.setattr(Delivery, "deliver_due", lambda self, destination, stop: asked.append("delivered"))
    delivery = Delivery(node_settings, database, lambda destination, stop: asked.append("proven"))
    delivery.take_turn(pacs)
    assert asked == []
    day.off_s = 0
    delivery.take_turn(pacs)
    assert asked == ["delivered", "proven"]
    assert Worker(node_settings, database, FakeDetector()).run_once()
