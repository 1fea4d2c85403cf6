"""Rows 17, 23, 25 and 26: the database is locked or older, the disk is full, the power is cut."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from dicom_node.analysis import jobs
from dicom_node.database.connection import Database, open_database, prepare_database
from dicom_node.database.tables import Instance, StudyRow
from dicom_node.errors import DatabaseError
from dicom_node.images.incoming import OUT_OF_RESOURCES, SUCCESS
from dicom_node.images.store import InstanceStore
from dicom_node.receiving import listener
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import ListenerRules
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import incoming, mr_image
from tests.fakes.scu import free_port, send
from tests.fakes.stops import ImpatientStop
from tests.faults.node import ROOT, until
from tests.unit.database.test_tables import at_first_schema


@pytest.mark.both_databases
@pytest.mark.parametrize(
    ("seconds", "status"),
    [
        (2, SUCCESS),
        pytest.param(25, SUCCESS, marks=pytest.mark.campaign),
        pytest.param(45, OUT_OF_RESOURCES, marks=pytest.mark.campaign),
    ],
)
def test_locked__waits_and_never_says_success_too_early(
    database: Database, node_settings: NodeSettings, seconds: float, status: int
) -> None:
    other = open_database(node_settings.database)
    store = InstanceStore(database, node_settings.data_dir)
    released: list[float] = []

    def hold() -> None:
        with other.write() as session:
            if session.connection().dialect.name == "postgresql":
                session.execute(text("LOCK TABLE instances IN ACCESS EXCLUSIVE MODE"))
            locked.set()
            time.sleep(seconds)
            released.append(time.monotonic())

    locked = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(5)
    assert store.receive(incoming(mr_image())) == status
    answered = time.monotonic()
    holder.join()
    other.close()
    with database.read() as session:
        rows = session.scalars(select(Instance)).all()
    assert len(rows) == (1 if status == SUCCESS else 0)
    if status == SUCCESS:
        assert answered >= released[0]
    assert store.receive(incoming(mr_image())) == SUCCESS


# A process that may not write files over two megabytes: the write of a larger image fails in the middle.
FULL = """
import resource, signal, sys
from pathlib import Path
from dicom_node.images.store import InstanceStore
from dicom_node.database.connection import open_database
from tests.fakes.datasets import incoming, mr_image

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
store = InstanceStore(open_database(sys.argv[1]), Path(sys.argv[2]))
large = mr_image(2)
large.PixelData = bytes(4_000_000)
print(*(f"{store.receive(incoming(image)):04X}" for image in (mr_image(1), large, mr_image(3))))
"""


def test_a_write_that_fails_in_the_middle__nothing_stays(database: Database, node_settings: NodeSettings) -> None:
    command = [sys.executable, "-c", FULL, node_settings.database, str(node_settings.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split("\n")[-2].split() == ["0000", "A700", "0000"]
    assert not list((node_settings.data_dir / "spool").iterdir())
    with database.read() as session:
        rows = session.scalars(select(Instance)).all()
    assert {row.path for row in rows} == {
        str(path.relative_to(node_settings.data_dir)) for path in (node_settings.data_dir / "instances").rglob("*.dcm")
    }
    assert len(rows) == 2


def test_a_full_disk_does_not_end_the_listener(
    database: Database, node_settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listener's work between images may fail just as images do; the listener goes on."""
    looks: list[None] = []

    def fail(*_: object) -> None:
        looks.append(None)
        raise OperationalError("SELECT alerts", {}, OSError(28, "No space left on device"))

    monkeypatch.setattr(listener, "open_alert", fail)
    settings = node_settings.model_copy(update={"listener": ListenerRules(port=free_port())})
    stop = ImpatientStop()
    running = threading.Thread(target=listener.run_listener, args=(settings, database, stop))
    running.start()
    until(lambda: len(looks) > 3 or not running.is_alive())
    assert send(settings.listener.port, mr_image()) == [0]
    stop.set()
    running.join(20)


@pytest.mark.both_databases
@pytest.mark.no_tables
def test_upgrade__queued_jobs_and_parcels_are_kept(tmp_path: Path, database_url: str) -> None:
    url = database_url or f"sqlite:///{tmp_path / 'node.db'}"
    old, now = at_first_schema(url), "2026-01-01 00:00:00"
    with old.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE outbox SET state = 'waiting'")
        for number in range(1, 21):
            uid = f"1.2.{number}"
            connection.exec_driver_sql(f"INSERT INTO studies VALUES ('{uid}', 'complete', 1, '{now}', '{now}')")
            connection.exec_driver_sql(
                "INSERT INTO jobs (study_uid, generation, state, priority, attempts, not_before, created_at, heartbeat,"
                f" reason) VALUES ('{uid}', 1, 'waiting', 0, 0, '{now}', '{now}', 0, '')"
            )
    old.close()
    database = prepare_database(url)
    claimed = set()
    with database.write() as session:
        while (claim := jobs.claim(session, "w", now=utc_now())) is not None:
            claimed.add(claim.study_uid)
        assert session.scalar(text("SELECT count(*) FROM outbox WHERE state = 'waiting'")) == 1
    database.close()
    assert claimed == {f"1.2.{number}" for number in range(1, 21)}


@pytest.mark.parametrize(
    ("column", "status"), [("INTEGER", SUCCESS), ("INTEGER NOT NULL CHECK (later > 0)", OUT_OF_RESOURCES)]
)
def test_upgrade__under_processes_at_work(
    database: Database, node_settings: NodeSettings, column: str, status: int
) -> None:
    """A later version migrates the database while processes of this one run: what they cannot do, they refuse."""
    store = InstanceStore(database, node_settings.data_dir)
    assert store.receive(incoming(mr_image(1))) == SUCCESS
    with database.write() as session:
        row = session.scalars(select(StudyRow)).one()
        row.state = "complete"
        jobs.enqueue(session, row.study_uid, 1, now=utc_now())
        claim = jobs.claim(session, "w", now=utc_now())
    assert claim is not None
    later = open_database(node_settings.database)
    with later.engine.begin() as connection:
        # As a migration makes a table anew.
        (made,) = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'instances'").one()
        columns = ", ".join(Instance.__table__.columns.keys())
        connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")
        connection.exec_driver_sql("ALTER TABLE instances RENAME TO earlier")
        connection.exec_driver_sql(made.replace("(", f"(later {column},", 1))
        connection.exec_driver_sql(f"INSERT INTO instances (later, {columns}) SELECT 1, {columns} FROM earlier")
        connection.exec_driver_sql("DROP TABLE earlier")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    later.close()
    assert store.receive(incoming(mr_image(2))) == status
    with database.read() as session:
        uids = set(session.scalars(select(Instance.sop_instance_uid)))
    assert uids == {str(mr_image(number).SOPInstanceUID) for number in ((1, 2) if status == SUCCESS else (1,))}
    # Every acknowledged image is on disk, and the job that was running can be handed back.
    for uid in uids:
        assert list((node_settings.data_dir / "instances").rglob(f"{uid}-*.dcm"))
    with database.write() as session:
        assert jobs.beat(session, claim)
        jobs.hand_back(session, claim)
    # A process that starts now says what is the matter.
    with pytest.raises(DatabaseError, match="newer version"):
        open_database(node_settings.database)


class PowerCut:
    """The contents of a disk that keeps only what was synced: contents by inode, names by folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.contents: dict[int, bytes] = {}
        self.names: dict[int, dict[str, int]] = {}
        self._sync = os.fsync
        monkeypatch.setattr(os, "fsync", self.fsync)

    def fsync(self, descriptor: int) -> None:
        self._sync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        inode = os.fstat(descriptor).st_ino
        if path.is_dir():
            self.names[inode] = {entry.name: entry.stat().st_ino for entry in path.iterdir()}
        else:
            self.contents[inode] = path.read_bytes()

    def read(self, root: Path, name: str) -> bytes | None:
        """A file's bytes as they would be found after the power came back."""
        inode: int | None = root.stat().st_ino
        for part in Path(name).parts:
            inode = self.names.get(inode or 0, {}).get(part)
        return self.contents.get(inode or 0)


def test_power_cut__whatever_was_acknowledged_is_on_the_disk(
    database: Database, node_settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy after every acknowledgement, with only what was synced until then."""
    disk = PowerCut(monkeypatch)
    store = InstanceStore(database, node_settings.data_dir)
    for study in ("1.2.3", "1.2.4"):
        for number in range(1, 4):
            assert store.receive(incoming(mr_image(number, study=study))) == SUCCESS
            with database.read() as session:
                rows = session.scalars(select(Instance)).all()
            for row in rows:
                assert disk.read(store.data_dir, row.path) == (store.data_dir / row.path).read_bytes(), row.path
    assert len(rows) == 6
