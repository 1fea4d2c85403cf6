"""Loops that outlive an error, and processes that wait for their turn."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest

from dicom_node.system.files import exclusive_lock
from dicom_node.system.lifecycle import StopFlag
from dicom_node.system.log import configure_logging
from dicom_node.system.loops import attempt, keep_doing, wait_for_turn


class Stop:
    """Counts the pauses and asks to stop after a given number of them."""

    def __init__(self, after: int) -> None:
        self._left = after
        self.pauses: list[float | None] = []

    def is_set(self) -> bool:
        return self._left <= 0

    def wait(self, seconds: float | None = None, /) -> bool:
        self.pauses.append(seconds)
        self._left -= 1
        return self.is_set()


@pytest.fixture
def log() -> io.StringIO:
    stream = io.StringIO()
    configure_logging(stream=stream)
    return stream


def lines(log: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_keep_doing__pauses_between_the_steps() -> None:
    done: list[int] = []
    stop = Stop(3)
    keep_doing(lambda: done.append(1), stop, 2.5, failed="step_failed")
    assert len(done) == 3
    assert stop.pauses == [2.5] * 3


def test_keep_doing__goes_on_at_once_while_there_is_more_to_do() -> None:
    answers = iter([True, True, False, True, False])
    stop = Stop(2)
    keep_doing(lambda: next(answers), stop, 1, failed="step_failed")
    assert next(answers, None) is None
    assert len(stop.pauses) == 2


def test_keep_doing__outlives_errors_and_logs_them_without_their_message(log: io.StringIO) -> None:
    def step() -> None:
        raise ValueError("DOE^JANE")

    stop = Stop(2)
    keep_doing(step, stop, 1, failed="step_failed", destination="pacs")
    assert [(line["event"], line["destination"]) for line in lines(log)] == [("step_failed", "pacs")] * 2
    assert "ValueError" in str(lines(log)[0]["exception"])
    assert "DOE" not in log.getvalue()


def test_keep_doing__may_pause_first_and_does_nothing_when_asked_to_stop_then() -> None:
    done: list[int] = []
    keep_doing(lambda: done.append(1), Stop(1), 1, failed="step_failed", wait_first=True)
    assert done == []
    keep_doing(lambda: done.append(1), Stop(2), 1, failed="step_failed", wait_first=True)
    assert done == [1]


@pytest.mark.parametrize("stop", [StopFlag(), threading.Event()])
def test_keep_doing__does_nothing_when_asked_to_stop_before(stop: StopFlag | threading.Event) -> None:
    stop.set()
    keep_doing(lambda: pytest.fail("a step was done"), stop, 1, failed="step_failed")


def test_attempt__returns_what_the_step_returns(log: io.StringIO) -> None:
    assert attempt(lambda: 7, "step_failed") == 7
    assert attempt(lambda: 1 / 0, "step_failed", job=3) is None
    (line,) = lines(log)
    assert (line["event"], line["job"], line["level"]) == ("step_failed", 3, "error")


def test_turn__is_had_at_once_where_nobody_else_has_it(tmp_path: Path) -> None:
    stop = Stop(1)
    with wait_for_turn(tmp_path / "lock", stop) as mine:
        assert mine
        with exclusive_lock(tmp_path / "lock") as other:
            assert not other
    assert stop.pauses == []
    with exclusive_lock(tmp_path / "lock") as other:
        assert other


def test_turn__is_waited_for_and_said_so(tmp_path: Path, log: io.StringIO) -> None:
    stop = Stop(2)
    with (
        exclusive_lock(tmp_path / "lock"),
        wait_for_turn(tmp_path / "lock", stop, every_s=3, waits="delivery_waits", why="another process") as mine,
    ):
        assert not mine
    assert stop.pauses == [3, 3]
    assert [(line["event"], line["why"]) for line in lines(log)] == [("delivery_waits", "another process")] * 2


def test_turn__comes_when_the_other_process_ends(tmp_path: Path) -> None:
    held, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with exclusive_lock(tmp_path / "lock"):
            held.set()
            ended.wait(10)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(10)
    threading.Timer(0.2, ended.set).start()
    with wait_for_turn(tmp_path / "lock", threading.Event(), every_s=0.05) as mine:
        assert mine
        assert ended.is_set()
    other.join()


def test_turn__an_error_in_the_block_ends_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="once"), wait_for_turn(tmp_path / "lock", Stop(5)):
        raise ValueError("once")
