"""A job that takes too long ends in a coded refusal."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.analysis import completion, jobs, time_limit
from dicom_node.analysis.lease import owner_name
from dicom_node.analysis.time_limit import FOLDER, TimeIsUp, TimeLimit
from dicom_node.analysis.worker import Worker
from dicom_node.database.connection import Database
from dicom_node.database.tables import Job, ResultRow
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import incoming, mr_image
from tests.fakes.detector import FakeDetector
from tests.faults.node import ROOT, until


@pytest.fixture
def settings(node_settings: NodeSettings) -> NodeSettings:
    return NodeSettings(**{**node_settings.model_dump(), "worker": {"job_limit_s": 0.5}})


@pytest.fixture(autouse=True)
def _watchdog_leaves_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be seen in the process of the tests is the alarm; the watchdog ends processes of its own."""
    monkeypatch.setattr(time_limit, "END_AFTER_S", 600.0)


@pytest.fixture
def job(database: Database, settings: NodeSettings) -> Callable[[], Job]:
    store = InstanceStore(database, settings.data_dir)
    for number in range(1, 6):
        assert store.receive(incoming(mr_image(number))) == 0
    with database.write() as session:
        completion.complete_due(session, now=utc_now() + timedelta(hours=1), quiet_seconds=1, max_wait_seconds=1)
        session.scalars(select(Job)).one().not_before = utc_now()

    def look() -> Job:
        with database.read() as session:
            return session.scalars(select(Job)).one()

    return look


def endless() -> None:
    """Swallows every error, as a reader of hostile files does."""
    began = time.monotonic()
    while time.monotonic() - began < 60:
        try:
            time.sleep(0.1)
        except Exception:  # the interruption must not be one of these
            continue


def test_reading__that_takes_too_long_is_a_refusal(
    database: Database, settings: NodeSettings, job: Callable[[], Job]
) -> None:
    began = time.monotonic()
    Worker(settings, database, FakeDetector(endless)).run_once()
    assert time.monotonic() - began < 50
    assert job().state == "done"
    assert job().reason.startswith("not analysable: time_limit")
    with database.read() as session:
        assert session.scalars(select(ResultRow)).one()


def test_job__that_takes_too_long_elsewhere_is_put_aside_at_once(
    database: Database, settings: NodeSettings, job: Callable[[], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(settings, database, FakeDetector())
    monkeypatch.setattr(worker, "_share", lambda study_uid: endless())
    worker.run_once()
    assert job().state == "failed"
    assert "job_limit_s" in job().reason


def test_limit__leaves_nothing_behind(tmp_path: Path) -> None:
    limit = TimeLimit(0.2, tmp_path)
    with limit.of_job(1):
        assert (tmp_path / FOLDER / "1").is_file()
    time.sleep(0.3)
    with pytest.raises(TimeIsUp), TimeLimit(0.1, tmp_path).of_job(1):
        time.sleep(5)
    assert not list((tmp_path / FOLDER).iterdir())


# Code in C that never looks for signals: with the interpreter's lock, and without it.
HANGS = {
    "holds the lock": "collections.deque(itertools.repeat(0), maxlen=0)",
    "without the lock": "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)",
}
WORKER = """
import collections, hashlib, itertools, sys
from pathlib import Path
from dicom_node.analysis import time_limit
from dicom_node.analysis.worker import Worker
from dicom_node.database.connection import open_database
from dicom_node.settings.reading import load_settings
from tests.fakes.detector import FakeDetector
from tests.faults.node import ROOT, until

time_limit.END_AFTER_S = 0.5
settings = load_settings(Path(sys.argv[1]))
Worker(settings, open_database(settings.database), FakeDetector(lambda: {hang})).run_once()
"""


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def worker_process(settings: NodeSettings) -> Iterator[Start]:
    """Starts a worker of its own, whose reading hangs; none is left at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(hang: str, limit_s: float = 2.0) -> subprocess.Popen[bytes]:
        started.append(_worker_process(settings, hang, limit_s))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def _worker_process(settings: NodeSettings, hang: str, limit_s: float) -> subprocess.Popen[bytes]:
    config = settings.data_dir.parent / "node.toml"
    config.write_text(f"[worker]\njob_limit_s = {limit_s}\n[retention]\ndisk_reserve_gb = 0\n")
    return subprocess.Popen([sys.executable, "-c", WORKER.format(hang=hang), str(config)], cwd=ROOT)


def give_back(database: Database, process: subprocess.Popen[bytes]) -> None:
    """What the supervisor does when a worker has died."""
    with database.write() as session:
        assert jobs.expire_all_of(session, owner_name(process.pid), "died", max_attempts=3)


def read_again() -> None:
    raise AssertionError("the study was read once more")


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS)
def test_reading__that_hangs_in_c_ends_the_process_and_is_a_refusal(
    database: Database, settings: NodeSettings, job: Callable[[], Job], worker_process: Start, hang: str
) -> None:
    process = worker_process(hang)
    assert process.wait(30) == 1
    give_back(database, process)
    Worker(settings, database, FakeDetector(read_again)).run_once()
    assert job().state == "done"
    assert job().reason.startswith("not analysable: time_limit")
    assert not list((settings.data_dir / FOLDER).iterdir())


def test_reading__whose_process_was_killed_is_tried_again(
    database: Database, settings: NodeSettings, job: Callable[[], Job], worker_process: Start
) -> None:
    note = settings.data_dir / FOLDER / str(job().id)
    process = worker_process("__import__('time').sleep(60)", limit_s=60)
    until(note.is_file)
    process.kill()
    process.wait()
    give_back(database, process)
    long = NodeSettings(**{**settings.model_dump(), "worker": {"job_limit_s": 60}})
    Worker(long, database, FakeDetector()).run_once()
    assert job().state == "done"
    assert "time_limit" not in job().reason
