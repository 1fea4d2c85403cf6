"""Timers by the monotonic clock: none is missed, none is made up for, one that stands still is noticed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from dicom_node.alerts.record import open_alerts, raise_alert
from dicom_node.database.connection import Database
from dicom_node.database.words import AlertKind
from dicom_node.health.readiness import checks
from dicom_node.processes.scheduler import Scheduler
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import Anchor, clock, lead
from tests.faults.node import until


@pytest.fixture
def scheduler(node_settings: NodeSettings, database: Database) -> Iterator[Scheduler]:
    made = Scheduler(node_settings, database)
    yield made
    made.stop()


def test_every__goes_on_after_an_error(scheduler: Scheduler) -> None:
    turns: list[None] = []

    def step() -> None:
        turns.append(None)
        raise RuntimeError("a locked database")

    scheduler.every(0.01, step)
    scheduler.start()
    until(lambda: len(turns) > 3)


def test_every__a_turn_that_took_long_is_not_made_up_for(scheduler: Scheduler) -> None:
    turns: list[float] = []

    def step() -> None:
        if not turns:
            time.sleep(0.5)
        turns.append(time.monotonic())

    scheduler.every(0.1, step)
    scheduler.start()
    until(lambda: len(turns) == 3)
    assert turns[2] - turns[0] > 0.15


def test_every__only_what_needs_no_time_goes_on_while_the_clock_is_wrong(scheduler: Scheduler) -> None:
    seen: list[str] = []
    scheduler.every(0.01, lambda: seen.append("dates"))
    scheduler.every(0.01, lambda: seen.append("lease"), needs_time=False)
    clock.set(Anchor(lead() - 86400))
    scheduler.start()
    until(lambda: len(seen) > 5)
    assert set(seen) == {"lease"}
    clock.set(Anchor(lead()))
    until(lambda: "dates" in seen)


def test_stuck__an_alert_and_not_ready_until_it_goes_on(
    scheduler: Scheduler, node_settings: NodeSettings, database: Database
) -> None:
    hold = threading.Event()

    def answer_due() -> None:
        hold.wait(30)

    def timers_are_well() -> bool:
        return next(check.is_well for check in checks(node_settings, database) if check.name == "timers")

    scheduler.every(0.01, answer_due, longest_s=0.2)
    scheduler.start()
    assert scheduler.is_well()
    assert timers_are_well()
    until(lambda: not scheduler.is_well())
    assert not scheduler.is_well()
    with database.read() as session:
        (alert,) = open_alerts(session)
    assert (alert.kind, alert.subject, alert.count) == ("timer_stuck", "answer_due", 1)
    assert not timers_are_well()
    hold.set()
    until(scheduler.is_well)
    assert timers_are_well()


def test_stuck__the_alert_of_a_process_before_this_one_is_closed(
    scheduler: Scheduler, node_settings: NodeSettings, database: Database
) -> None:
    with database.write() as session:
        raise_alert(session, AlertKind.TIMER_STUCK, "complete_studies", "no turn has ended")
    scheduler.start()
    assert scheduler.is_well()
    with database.read() as session:
        assert not open_alerts(session)
