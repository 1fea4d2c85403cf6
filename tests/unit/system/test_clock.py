from __future__ import annotations

import time
from datetime import timedelta
from itertools import pairwise

import pytest

from dicom_node.system import clock as clocks
from dicom_node.system.clock import Anchor, Clock, back_off, has_passed, utc_now

DAY = 86400.0


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 10), (2, 20), (4, 80), (9, 600), (10_000, 600)])
def test_back_off__doubles_up_to_the_longest(attempts: int, seconds: float) -> None:
    assert back_off(attempts, 10, 600) == seconds


@pytest.mark.parametrize(("ago_s", "passed"), [(0, False), (59, False), (60, True), (3600, True), (-1, True)])
def test_has_passed__even_if_the_pause_begins_in_the_future(ago_s: int, passed: bool) -> None:
    now = utc_now()
    assert has_passed(now - timedelta(seconds=ago_s), 60, now) is passed


class Machine:
    """A machine's time since its start and its time of day, both in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.up, self.wall = 1000.0, 1_800_000_000.0
        monkeypatch.setattr(clocks, "uptime", lambda: self.up)
        monkeypatch.setattr(clocks, "lead", lambda: self.wall - self.up)

    def pass_time(self, seconds: float, *, step: float = 0.0) -> None:
        self.up += seconds
        self.wall += seconds + step


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def clock(machine: Machine) -> Clock:
    clock = Clock()
    clock.set(Anchor(machine.wall - machine.up))
    return clock


@pytest.mark.parametrize("step", [-3650 * DAY, -DAY, -3600.0, 301.0, 3600.0, DAY, 3650 * DAY])
def test_now__goes_on_when_the_time_of_day_jumps_until_it_is_back(machine: Machine, clock: Clock, step: float) -> None:
    right = machine.wall
    machine.pass_time(10, step=step)
    assert clock.now().timestamp() == pytest.approx(right + 10)
    assert ("ahead" if step > 0 else "behind") in clock.fault()
    machine.pass_time(10, step=-step)
    assert clock.fault() == ""
    assert clock.now().timestamp() == pytest.approx(right + 20)


def test_now__follows_slews_and_small_steps(machine: Machine, clock: Clock) -> None:
    for step in (0.5, -0.5, 60, 240, 240, -290):
        machine.pass_time(3600, step=step)
        assert clock.fault() == ""
        assert clock.now().timestamp() == pytest.approx(machine.wall)


def test_now__a_suspended_machine_and_daylight_saving_are_no_jump(machine: Machine, clock: Clock) -> None:
    """Both clocks go on while it sleeps; the time of day counts in UTC."""
    machine.pass_time(8 * 3600)
    assert clock.fault() == ""
    assert clock.now().timestamp() == pytest.approx(machine.wall)


def test_now__never_goes_back_by_more_than_a_correction(machine: Machine, clock: Clock) -> None:
    seen = []
    for step in (0, DAY, -2 * DAY, 400 * DAY, -399 * DAY):
        machine.pass_time(1, step=step)
        seen.append(clock.now().timestamp())
    assert all(later > earlier for earlier, later in pairwise(seen))


@pytest.mark.parametrize(
    ("passed", "is_believed"), [(-DAY, False), (-200, True), (0, True), (29 * DAY, True), (31 * DAY, False)]
)
def test_now__of_a_machine_that_was_just_started_is_not_before_what_is_recorded(
    machine: Machine, clock: Clock, passed: float, is_believed: bool
) -> None:
    clock.set(Anchor(machine.wall - passed - machine.up, is_sure=False))
    assert (clock.fault() == "") is is_believed
    clock.now()
    assert clock.anchor is not None
    assert clock.anchor.is_sure is is_believed


def test_now__without_an_anchor_is_the_time_of_day(machine: Machine) -> None:
    unwatched = Clock()
    machine.pass_time(1, step=3650 * DAY)
    assert unwatched.now().timestamp() == pytest.approx(machine.wall)
    assert unwatched.fault() == ""


@pytest.mark.parametrize(
    ("step", "words"), [(-400, "7 minutes behind"), (7300, "2 hours ahead"), (1e8, "1157 days ahead")]
)
def test_fault__in_words(machine: Machine, clock: Clock, step: float, words: str) -> None:
    machine.pass_time(0, step=step)
    assert clock.fault() == f"the time of day is {words}: it should be about 2027-01-15 08:00 UTC"


def test_uptime__counts_the_time_in_which_the_machine_was_suspended() -> None:
    assert clocks.uptime() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1)
