"""Row 51: the database file is deleted or replaced under a running node, as by a restore that did not stop it first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.alerts.record import open_alerts
from dicom_node.database.connection import Database, open_database, prepare_database
from dicom_node.database.tables import Instance
from dicom_node.health.database_watch import DatabaseWatch
from dicom_node.health.readiness import checks
from dicom_node.images.incoming import OUT_OF_RESOURCES, SUCCESS
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.upkeep.backup import restore_backup, write_backup
from tests.fakes.datasets import incoming, mr_image
from tests.fakes.scu import send
from tests.faults.node import Listener


def put_away(folder: Path, aside: Path) -> None:
    """What docs/operations.md asks for before a restore."""
    aside.mkdir()
    for path in folder.glob("node.db*"):
        path.rename(aside / path.name)


def delete(file: Path, elsewhere: Path) -> None:
    file.rename(elsewhere)


def replace(file: Path, elsewhere: Path) -> None:
    file.rename(elsewhere)
    prepare_database(f"sqlite:///{file}").close()


@pytest.mark.parametrize(("lose", "word"), [(delete, "deleted"), (replace, "replaced")])
def test_lost__nothing_is_acknowledged_and_readiness_and_an_alert_say_so(
    database: Database,
    node_settings: NodeSettings,
    tmp_path: Path,
    lose: Callable[[Path, Path], None],
    word: str,
) -> None:
    file = node_settings.data_dir / "node.db"
    store, watch = InstanceStore(database, node_settings.data_dir), DatabaseWatch(database)
    assert store.receive(incoming(mr_image(1))) == SUCCESS
    watch.look()
    lose(file, tmp_path / "aside")
    for _ in range(2):
        watch.look()
        assert store.receive(incoming(mr_image(2))) == OUT_OF_RESOURCES
    seen = {check.name: check for check in checks(node_settings, database)}
    assert not seen["database"].is_well
    assert seen["database"].seen == f"node.db was {word} while the node was running"
    # The processes that run have the lost file open, and tell from there.
    with database.read(even_if_lost=True) as session:
        (alert,) = open_alerts(session)
    assert (alert.kind, alert.count) == ("database_lost", 1)
    assert file.exists() is (lose is replace)
    # The same file comes back: the node goes on.
    (tmp_path / "aside").rename(file)
    watch.look()
    assert store.receive(incoming(mr_image(2))) == SUCCESS
    with database.read() as session:
        assert open_alerts(session) == []


def test_lost__a_new_connection_makes_no_empty_database(database: Database, node_settings: NodeSettings) -> None:
    (node_settings.data_dir / "node.db").rename(node_settings.data_dir / "aside")
    database.engine.dispose()
    with pytest.raises(FileNotFoundError), database.read(even_if_lost=True) as session:
        session.scalars(select(Instance)).all()
    assert not (node_settings.data_dir / "node.db").exists()


def test_restore__while_the_listener_runs_loses_nothing(tmp_path: Path) -> None:
    listener = Listener(tmp_path)
    data, backup = tmp_path / "data", tmp_path / "backup.tar"
    try:
        assert send(listener.port, mr_image(1)) == [SUCCESS]
        write_backup(listener.settings, tmp_path / "node.toml", backup)
        assert send(listener.port, mr_image(2)) == [SUCCESS]
        listener.database.close()
        put_away(data, tmp_path / "aside")
        restore_backup(backup, tmp_path)
        # The listener has the old database open. What it took now would be in no database after its next start.
        assert send(listener.port, mr_image(3)) == [OUT_OF_RESOURCES]
        assert listener.is_running()
        assert listener.stop() == 0
        listener.start()
        assert send(listener.port, mr_image(3)) == [SUCCESS]
        restored = open_database(listener.settings.database)
        with restored.read() as session:
            found = session.scalars(select(Instance.sop_instance_uid).order_by(Instance.sop_instance_uid)).all()
        restored.close()
        assert found == [str(mr_image(number).SOPInstanceUID) for number in (1, 2, 3)]
        assert listener.stop() == 0
    finally:
        listener.kill()
