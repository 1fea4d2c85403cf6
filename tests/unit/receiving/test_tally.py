"""What strangers do is counted, and reported by one writer."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import pairwise

from dicom_node.receiving import tally as module
from dicom_node.receiving.tally import OTHERS, Count, Tally
from dicom_node.system.clock import utc_now
from tests.faults.node import until


class Reports:
    """What was reported, and when."""

    def __init__(self, *, leaves_work: int = 0) -> None:
        self.seen: list[list[Count]] = []
        self.at: list[float] = []
        self._leaves_work = leaves_work

    def __call__(self, counts: Sequence[Count]) -> bool:
        self.seen.append(list(counts))
        self.at.append(time.monotonic())
        return len(self.seen) <= self._leaves_work

    @property
    def times(self) -> int:
        return sum(count.times for counts in self.seen for count in counts)


def refused(address: str = "10.0.0.1", calling: str = "EVIL") -> Count:
    return Count("association_refused", "address not allowed", address, calling, "SPINEONE")


def test_note__only_counts_and_the_last_call_is_named() -> None:
    reports, began = Reports(), utc_now()
    tally = Tally(reports, every_s=60)
    for number in range(100):
        tally.note(refused(calling=f"EVIL{number}"))
    assert not reports.seen
    tally.flush()
    ((count,),) = reports.seen
    assert (count.address, count.calling, count.times) == ("10.0.0.1", "EVIL99", 100)
    assert began < count.at < utc_now()


def test_note__beyond_the_known_addresses_is_counted_as_others() -> None:
    reports = Reports()
    tally = Tally(reports, every_s=60, most=3)
    for number in range(50):
        tally.note(refused(f"10.0.0.{number}"))
        if number == 10:
            tally.flush()
    tally.flush()
    assert reports.times == 50
    assert {count.address for counts in reports.seen for count in counts} == {
        "10.0.0.0",
        "10.0.0.1",
        "10.0.0.2",
        OTHERS,
    }


def test_note__an_address_that_was_silent_for_long_makes_room() -> None:
    reports = Reports()
    tally = Tally(reports, every_s=60, most=1)
    tally.note(refused("10.0.0.1"))
    tally.flush()
    tally._seen = {key: at - module._KNOWN_FOR_S - 1 for key, at in tally._seen.items()}
    tally.note(refused("10.0.0.2"))
    tally.flush()
    assert reports.seen[1][0].address == "10.0.0.2"


def test_writer__reports_the_first_at_once_then_after_a_pause() -> None:
    reports = Reports()
    tally = Tally(reports, every_s=0.2)
    tally.start()
    began = time.monotonic()
    while time.monotonic() - began < 0.7:
        tally.note(refused())
        time.sleep(0.005)
    tally.stop()
    assert reports.at[0] - began < 0.15
    assert all(later - earlier >= 0.19 for earlier, later in pairwise(reports.at[:-1]))
    assert len(reports.at) <= 6


def test_writer__comes_back_to_what_could_not_be_written() -> None:
    reports = Reports(leaves_work=2)
    tally = Tally(reports, every_s=0.01)
    tally.start()
    tally.note(refused())
    until(lambda: len(reports.seen) >= 3, 5)
    tally.stop()
    assert reports.times == 1


def test_note__waits_for_no_report() -> None:
    is_slow = threading.Event()

    def report(counts: Sequence[Count]) -> bool:
        is_slow.wait(10)
        return False

    tally = Tally(report, every_s=0.01)
    tally.start()
    began = time.monotonic()
    for _ in range(100):
        tally.note(refused())
    assert time.monotonic() - began < 1
    is_slow.set()
    tally.stop()
