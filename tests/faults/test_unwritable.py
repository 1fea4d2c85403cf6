"""Row 91: the data folder can no longer be written while the node runs: the disk turned read-only, or permissions were lost."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.alerts.record import open_alerts
from dicom_node.analysis import completion
from dicom_node.analysis.worker import Worker
from dicom_node.database.connection import Database, open_database, prepare_database
from dicom_node.database.tables import Instance, Job
from dicom_node.images.incoming import OUT_OF_RESOURCES, SUCCESS
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import incoming, mr_image
from tests.fakes.detector import FakeDetector
from tests.fakes.scu import free_port, send
from tests.faults.disk import Disk
from tests.faults.node import Process, until
from tests.peers import node_command

# A process without the rights of root: the permissions of files hold for it as for any user.
UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()


class Node:
    """A listener and a web process; data and database may lie on different disks."""

    def __init__(self, folder: Path, data: Path, database: Path) -> None:
        self.port, self.web_port = free_port(), free_port()
        self.config, self._folder = folder / "node.toml", folder
        self.config.write_text(
            f'data_dir = "{data}"\ndatabase_url = "sqlite:///{database}"\n[listener]\nport = {self.port}\n'
            f"[web]\nport = {self.web_port}\n[retention]\ndisk_reserve_gb = 0\n"
        )
        self.settings = load_settings(self.config)
        prepare_database(self.settings.database).close()
        self.roles: list[Process] = []

    def start(self) -> None:
        for command, ready in (("listen", "listening"), ("web", "web_listening")):
            program = [*UNPRIVILEGED, *node_command(command, "--config", self.config)]
            self.roles.append(Process(program, self._folder / f"{command}.log", ready))

    def kill(self) -> None:
        for role in self.roles:
            role.kill()
        self.roles.clear()

    def alerts(self) -> list[str]:
        with self._opened() as database, database.read() as session:
            return [alert.kind for alert in open_alerts(session)]

    def instances(self) -> set[str]:
        with self._opened() as database, database.read() as session:
            return set(session.scalars(select(Instance.sop_instance_uid)))

    @contextmanager
    def _opened(self) -> Iterator[Database]:
        database = open_database(self.settings.database)
        yield database
        database.close()

    def disk(self) -> str:
        """What /readyz says of the disk."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}/readyz", timeout=10) as page:
                answer = page.read()
        except urllib.error.HTTPError as error:
            answer = error.read()
        return str(json.loads(answer)["checks"]["disk"]["detail"])

    def refuses(self, number: int) -> None:
        """Nothing is acknowledged, readiness and an alert say why, and both processes go on."""
        assert send(self.port, mr_image(number)) == [OUT_OF_RESOURCES]
        until(lambda: "nothing can be written" in self.disk(), 30)
        assert all(role.is_running() for role in self.roles)

    def recovers(self, number: int) -> None:
        """Without a restart."""
        assert send(self.port, mr_image(number)) == [SUCCESS]
        until(lambda: "nothing can be written" not in self.disk(), 30)
        until(lambda: self.alerts() == [], 30)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users can reach; pytest's own is for its user only."""
    with tempfile.TemporaryDirectory(prefix="unwritable-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def uid(number: int) -> str:
    return str(mr_image(number).SOPInstanceUID)


@contextmanager
def running(node: Node) -> Iterator[None]:
    node.start()
    try:
        yield
    finally:
        for role in node.roles:
            print(role.log[-3000:])
        node.kill()


@pytest.fixture
def own(place: Path) -> Iterator[Disk]:
    try:
        made = Disk(place, 64)
    except OSError as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.mark.parametrize("database_is_on_it", [True, False])
def test_disk_error__all_is_read_only_until_it_is_mounted_again(
    place: Path, own: Disk, database_is_on_it: bool
) -> None:
    """As ext4 does after an error. With the database on the same disk not even an alert can be written: readiness tells."""
    if not own.can_fail():
        pytest.skip("this kernel lets nobody make an error of an ext4 disk")
    node = Node(place, own.at / "data", (own.at if database_is_on_it else place) / "node.db")
    with running(node):
        assert send(node.port, mr_image(1)) == [SUCCESS]
        own.fail()
        node.refuses(2)
        assert database_is_on_it or "disk_reserve" in node.alerts()
    own.mount_again()
    with running(node):
        node.recovers(2)
        assert node.instances() == {uid(1), uid(2)}


def take_write_permission(data: Path) -> None:
    for folder in (data, *data.rglob("*")):
        if folder.is_dir():
            folder.chmod(0o550)


def give_to_another_user(data: Path) -> None:
    for folder in (data, *data.rglob("*")):
        os.chown(folder, 65534, 65534)


def restore(data: Path) -> None:
    for folder in (data, *data.rglob("*")):
        os.chown(folder, os.geteuid(), os.getegid())
        if folder.is_dir():
            folder.chmod(0o750)


# As the user that the tests run as can do it.
LOSE = give_to_another_user if os.geteuid() == 0 else take_write_permission


def test_permissions__are_lost_and_come_back(place: Path) -> None:
    """The node runs without the rights of root, as its unit has it."""
    if UNPRIVILEGED and shutil.which("setpriv") is None:
        pytest.skip("not installed: setpriv")
    data = place / "data"
    node = Node(place, data, place / "node.db")
    with running(node):
        assert send(node.port, mr_image(1)) == [SUCCESS]
        LOSE(data)
        node.refuses(2)
        assert "disk_reserve" in node.alerts()
        restore(data)
        node.recovers(2)
        assert node.instances() == {uid(1), uid(2)}


def test_worker__uses_up_no_attempt_while_its_result_cannot_be_written(
    database: Database, node_settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = InstanceStore(database, node_settings.data_dir)
    for number in range(1, 6):
        assert store.receive(incoming(mr_image(number))) == SUCCESS
    with database.write() as session:
        completion.complete_due(session, now=utc_now() + timedelta(hours=1), quiet_seconds=1, max_wait_seconds=1)
        session.scalars(select(Job)).one().not_before = utc_now()
    working = Worker(node_settings, database, FakeDetector())
    with monkeypatch.context() as patch:
        patch.setattr("dicom_node.system.disk.tempfile.TemporaryFile", no_file)
        assert not working.run_once()
    with database.read() as session:
        assert (session.scalars(select(Job)).one().state, session.scalars(select(Job)).one().attempts) == ("waiting", 0)
    assert working.run_once()
    with database.read() as session:
        assert session.scalars(select(Job)).one().state == "done"


def no_file(**options: object) -> None:
    raise OSError(30, "Read-only file system")
