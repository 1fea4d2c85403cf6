"""Row 48: the machine's clock is really moved, under a running process (libfaketime; its monotonic clock goes on)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.analysis import jobs
from dicom_node.database.connection import Database, prepare_database
from dicom_node.settings.reading import load_settings
from tests.faults.node import Process
from tests.peers import node_command
from tests.unit.analysis.test_jobs import add_job, state_of, take

LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
LEASE_S = 2.0

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="not installed: libfaketime (Debian's package faketime)")


class Clock:
    """The time of day of processes that are started from now on."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = file
        self.move("+0")
        environment = {"LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}
        for name, value in {**environment, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}.items():
            monkeypatch.setenv(name, value)

    def move(self, by: str) -> None:
        """Such as "+1d", from the true time."""
        new = self._file.with_suffix(".new")
        new.write_text(by + "\n")
        new.replace(self._file)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    config = tmp_path / "node.toml"
    config.write_text(
        f"[worker]\nheartbeat_s = 0.5\nlease_s = {LEASE_S}\n[study]\nquiet_seconds = 1\n[retention]\ndisk_reserve_gb = 0\n"
    )
    settings = load_settings(config)
    settings.data_dir.mkdir()
    opened = prepare_database(settings.database)
    yield opened
    opened.close()


def wait_beating(database: Database, claim: jobs.Claim, seconds: float) -> None:
    """What a worker's heartbeat does meanwhile."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with database.write() as session:
            assert jobs.beat(session, claim)
        time.sleep(0.2)


def test_lease__is_kept_while_its_worker_beats_and_ends_after_its_silence(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add_job(database)
    claim = take(database)
    clock = Clock(tmp_path / "clock", monkeypatch)
    command = node_command("deliver", "--config", tmp_path / "node.toml")
    reclaimer = Process(command, tmp_path / "log", "delivering")
    try:
        for moved in ("+1d", "-1d", "+0"):
            wait_beating(database, claim, LEASE_S)
            clock.move(moved)
        clock.move("-1d")
        wait_beating(database, claim, LEASE_S)
        silent_since = time.monotonic()
        while state_of(database, job).state == "running":
            assert time.monotonic() - silent_since < 3 * LEASE_S
            time.sleep(0.1)
        assert time.monotonic() - silent_since > LEASE_S - 0.5
        assert state_of(database, job).reason == "worker w1 fell silent"
        # The clock was really another one.
        assert len({line[15:25] for line in reclaimer.log.splitlines()}) > 1
        assert reclaimer.stop() == 0
    finally:
        reclaimer.kill()
