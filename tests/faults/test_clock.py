"""Row 48: the machine's clock is really moved, under running processes (libfaketime; their monotonic clock goes on)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from dicom_node.alerts.record import open_alerts
from dicom_node.analysis import completion, jobs
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, Job
from dicom_node.health.readiness import checks
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from dicom_node.system.clock import utc_now
from tests.fakes import wire
from tests.fakes.analyses import analyse_next
from tests.fakes.datasets import incoming, mr_image
from tests.fakes.scu import free_port, send
from tests.faults.node import ROOT, Process, until
from tests.peers import node_command
from tests.unit.analysis.test_jobs import add_job, state_of, take

LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
LEASE_S = 2.0
IDLE_S = 3.0
OLD, BEFORE, DURING = "1.2.3.1", "1.2.3.2", "1.2.3.3"

# libfaketime 0.9 makes Python's time.sleep fail (clock_nanosleep until a time of the monotonic clock): another sleep takes
# its place.
PROGRAM = """
import select, sys, time
time.sleep = lambda seconds: select.select([], [], [], seconds)
from dicom_node.cli.app import main
main(sys.argv[1:])
"""
READY = {"listen": "listening", "deliver": "delivering"}

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="not installed: libfaketime (Debian's package faketime)")


class Clock:
    """The time of day of processes that are started from now on."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = file
        self._file.write_text("+0\n")
        monkeypatch.setenv("LD_PRELOAD", str(LIBRARY))
        monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(file))
        # Without a cache pynetdicom's threads would read the file some thousand times a second.
        monkeypatch.setenv("FAKETIME_CACHE_DURATION", "1")
        monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")

    def move(self, to: str) -> None:
        """Such as "+1d", from the true time, or "@1970-01-01 00:10:00"."""
        new = self._file.with_suffix(".new")
        new.write_text(to + "\n")
        new.replace(self._file)

    def move_all(self, to: str) -> None:
        """Move it, and wait until every process has looked at it again."""
        self.move(to)
        time.sleep(1.5)


class Node:
    """A listener and a delivery process, started when they are needed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.config = folder / "node.toml"
        self.config.write_text(
            f"[listener]\nport = {self.port}\nidle_timeout_s = {IDLE_S}\n"
            f"[worker]\nheartbeat_s = 0.5\nlease_s = {LEASE_S}\n"
            "[study]\nquiet_seconds = 1\n"
            '[retention]\ndisk_reserve_gb = 0\nkeep_days = 30\nevidence = "analysed"\n'
        )
        self.settings: NodeSettings = load_settings(self.config)
        self.roles: dict[str, Process] = {}

    def start(self, *commands: str) -> None:
        for command in commands:
            program = [sys.executable, "-c", PROGRAM, command, "--config", str(self.config)]
            self.roles[command] = Process(program, self.folder / f"{command}.log", READY[command])

    def command(self, *arguments: str) -> str:
        """What a command of the operator says, on the same machine with the same clock."""
        command = node_command(*arguments, "--config", self.config)
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def node(tmp_path: Path, node_settings: NodeSettings) -> Iterator[Node]:
    made = Node(tmp_path)
    assert made.settings.database == node_settings.database
    yield made
    for role in made.roles.values():
        print(role.log)
        role.kill()


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(tmp_path / "clock", monkeypatch)


def alerts(database: Database) -> list[str]:
    with database.read() as session:
        return [alert.kind for alert in open_alerts(session)]


def jobs_of(database: Database, study: str) -> int:
    with database.read() as session:
        return len(session.scalars(select(Job).where(Job.study_uid == study)).all())


def received_at(database: Database, study: str) -> datetime:
    with database.read() as session:
        return session.scalars(select(Instance.received_at).where(Instance.study_uid == study)).one()


def clock_is_ready(node: Node, database: Database) -> bool:
    return next(check.is_well for check in checks(node.settings, database) if check.name == "clock")


def analyse_old_study(node: Node, database: Database) -> None:
    """An analysed study: retention may delete it when it is 30 days old."""
    store = InstanceStore(database, node.settings.data_dir)
    for number in range(1, 6):
        assert store.receive(incoming(mr_image(number, study=OLD))) == 0
    with database.write() as session:
        later = utc_now() + timedelta(hours=1)
        completion.complete_due(session, now=later, quiet_seconds=1, max_wait_seconds=1)
        session.execute(update(Job).values(not_before=utc_now()))
    analyse_next(database, node.settings)


def is_kept(node: Node) -> bool:
    return len(list((node.settings.data_dir / "instances" / OLD).rglob("*.dcm"))) == 5


@pytest.mark.parametrize("moved", ["-1d", "+1d", "+10y"])
def test_step__while_studies_come_in(node: Node, database: Database, clock: Clock, moved: str) -> None:
    """Images are kept, leases end; nothing is dated, deleted or sent until the clock is right; then all goes on."""
    analyse_old_study(node, database)
    node.start("listen", "deliver")
    assert send(node.port, mr_image(1, study=BEFORE)) == [0]
    until(lambda: jobs_of(database, BEFORE) == 1)
    silent = take(database)
    clock.move_all(moved)
    assert send(node.port, mr_image(1, study=DURING)) == [0]
    until(lambda: alerts(database) == ["clock"], 10)
    assert not clock_is_ready(node, database)
    # A worker that fell silent loses its job all the same.
    until(lambda: state_of(database, silent.job_id).state == "waiting", 4 * LEASE_S)
    # A restart forgets nothing: its timers begin at once, retention among them.
    node.roles["deliver"].kill()
    node.start("deliver")
    assert node.command("purge", "--older-than", "30").startswith("deleted: 0 of 0 studies")
    assert "kept: the time of day is" in node.command("purge", "--study", OLD)
    time.sleep(3)
    assert jobs_of(database, DURING) == 0
    assert is_kept(node)
    assert abs(received_at(database, DURING) - utc_now()) < timedelta(minutes=1)
    clock.move_all("+0")
    until(lambda: jobs_of(database, DURING) == 1, 10)
    until(lambda: alerts(database) == [], 30)
    assert clock_is_ready(node, database)
    assert is_kept(node)
    assert all(role.is_running() and role.stop() == 0 for role in node.roles.values())


def test_step__that_is_acknowledged_is_the_time(node: Node, database: Database, clock: Clock) -> None:
    node.start("listen", "deliver")
    clock.move_all("+1d")
    assert send(node.port, mr_image(1, study=DURING)) == [0]
    until(lambda: alerts(database) == ["clock"], 10)
    with database.read() as session:
        (alert,) = open_alerts(session)
    assert node.command("acknowledge", str(alert.id)) == f"alert {alert.id} closed\n"
    until(lambda: jobs_of(database, DURING) == 1, 10)
    time.sleep(3)
    assert alerts(database) == []
    assert send(node.port, mr_image(1, study=BEFORE)) == [0]
    assert received_at(database, BEFORE) - utc_now() > timedelta(hours=23)


def test_start__in_1970(node: Node, database: Database, clock: Clock) -> None:
    """The battery of the machine's clock is empty: the network's time comes later."""
    analyse_old_study(node, database)
    clock.move_all("@1970-01-01 00:10:00")
    node.start("listen", "deliver")
    assert send(node.port, mr_image(1, study=DURING)) == [0]
    until(lambda: alerts(database) == ["clock"], 10)
    time.sleep(3)
    assert jobs_of(database, DURING) == 0
    assert is_kept(node)
    assert received_at(database, DURING) >= received_at_last(database, OLD)
    clock.move_all("+0")
    until(lambda: jobs_of(database, DURING) == 1, 10)
    until(lambda: alerts(database) == [], 30)
    assert is_kept(node)


def received_at_last(database: Database, study: str) -> datetime:
    with database.read() as session:
        return max(session.scalars(select(Instance.received_at).where(Instance.study_uid == study)))


def test_idle_association__ends_though_the_clock_was_set_back(node: Node, database: Database, clock: Clock) -> None:
    node.start("listen")
    with wire.connect(node.port, timeout=4 * IDLE_S) as silent:
        silent.sendall(wire.associate())
        assert wire.kind(wire.answer(silent)) == "accepted"
        clock.move_all("-1h")
        began = time.monotonic()
        while silent.recv(1024):
            pass
        assert time.monotonic() - began < 3 * IDLE_S


def wait_beating(database: Database, claim: jobs.Claim, seconds: float) -> None:
    """What a worker's heartbeat does meanwhile."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with database.write() as session:
            assert jobs.beat(session, claim)
        time.sleep(0.2)


def test_lease__is_kept_while_its_worker_beats_and_ends_after_its_silence(
    node: Node, database: Database, clock: Clock
) -> None:
    job = add_job(database)
    claim = take(database)
    node.start("deliver")
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
    reclaimer = node.roles["deliver"]
    assert len({line[15:25] for line in reclaimer.log.splitlines()}) > 1
    assert reclaimer.stop() == 0
