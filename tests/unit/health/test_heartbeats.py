from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.database.connection import Database
from dicom_node.database.tables import ProcessRow
from dicom_node.health.heartbeats import SILENT_AFTER_S, GpuMemory, beating, running
from dicom_node.system.clock import utc_now
from dicom_node.system.lifecycle import ALIVE_FILE, notify_systemd


def roles(database: Database) -> list[str]:
    with database.read() as session:
        return [process.role for process in running(session, now=utc_now())]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_beating__is_seen_and_says_goodbye(database: Database) -> None:
    with beating(database, "worker", every_s=0.05):
        until(lambda: roles(database) == ["worker"])
    assert roles(database) == []


def test_beating__a_process_that_is_not_well_keeps_silent(database: Database) -> None:
    with beating(database, "supervisor", is_well=lambda: False, every_s=0.01):
        time.sleep(0.1)
        assert roles(database) == []


def test_beating__goes_on_after_an_error_in_the_look_at_its_health(database: Database) -> None:
    answers = iter([False])

    def is_well() -> bool:
        if next(answers, True):
            return True
        raise RuntimeError("the look failed")

    with beating(database, "supervisor", is_well=is_well, every_s=0.02):
        until(lambda: roles(database) == ["supervisor"])


def gpus(database: Database) -> list[GpuMemory | None]:
    with database.read() as session:
        return [process.gpu for process in running(session, now=utc_now())]


def test_beating__measures_the_gpu_anew_each_time(database: Database) -> None:
    free = iter(range(7, 1000))
    with beating(database, "worker", gpu=lambda: ("cuda:1", next(free), 5000), every_s=0.02):
        until(lambda: (gpus(database) or [None])[0] is not None)
        first = gpus(database)[0]
        until(lambda: gpus(database)[0] != first)
        assert first is not None
        assert (first.device, first.total) == ("cuda:1", 5000)


def test_beating__a_gpu_that_cannot_be_measured_stops_no_heart(database: Database) -> None:
    def lost() -> tuple[str, int, int]:
        raise RuntimeError("CUDA error: device lost")

    with beating(database, "worker", gpu=lost, every_s=0.02):
        until(lambda: roles(database) == ["worker"])
        assert gpus(database) == [None]


def test_running__a_silent_process_is_shown_but_not_alive(database: Database) -> None:
    now = utc_now()
    with database.write() as session:
        for seconds in (0, SILENT_AFTER_S + 1):
            beat = now - timedelta(seconds=seconds)
            session.add(ProcessRow(role="worker", host="a", pid=1, started_at=beat, beat_at=beat))
    with database.read() as session:
        assert [process.is_alive for process in running(session, now=now)] == [True, False]


def test_beating__forgets_rows_of_yesterday(database: Database) -> None:
    old = utc_now() - timedelta(days=2)
    with database.write() as session:
        session.add(ProcessRow(role="listener", host="gone", pid=7, started_at=old, beat_at=old))
    with beating(database, "delivery", every_s=0.05):
        until(lambda: roles(database) == ["delivery"])


def test_beating__feeds_systemds_watchdog(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with beating(database, "worker", every_s=0.05):
            assert systemd.recv(64) == b"WATCHDOG=1"


def test_beating__touches_the_file_of_a_probe_while_all_is_well(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = tmp_path / "alive"
    monkeypatch.setenv(ALIVE_FILE, str(alive))
    with beating(database, "worker", is_well=lambda: False, every_s=0.05):
        time.sleep(0.3)
    assert not alive.exists()
    with beating(database, "worker", every_s=0.05):
        until(alive.exists)


def test_notify_systemd__without_systemd_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify_systemd("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    notify_systemd("READY=1")
