"""`dicom-node backup` and `restore`: everything that was kept comes back, byte for byte."""

from __future__ import annotations

import sqlite3
import stat
import tarfile
from pathlib import Path

import pytest

from dicom_node.alerts.record import open_alerts, raise_alert
from dicom_node.cli.app import main
from dicom_node.database.connection import open_database
from dicom_node.health.overview import status
from dicom_node.images.reconcile import reconcile
from dicom_node.images.store import InstanceStore
from dicom_node.settings.reading import load_settings
from dicom_node.upkeep.backup import write_backup
from tests.fakes.datasets import STUDY, incoming, mr_image


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A node with two images of one study and an alert."""
    run("init", "--dir", tmp_path / "node")
    config = tmp_path / "node" / "node.toml"
    settings = load_settings(config)
    database = open_database(settings.database)
    store = InstanceStore(database, settings.data_dir)
    for number in (1, 2):
        store.receive(incoming(mr_image(number)))
    with database.write() as session:
        raise_alert(session, "refused", "10.0.0.1: wrong called AE title", "calling AE OLD")
    database.close()
    return config


def test_restore__gives_back_what_was_there(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("backup", tmp_path / "b.tar", "--with-files", "--config", config) == 0
    assert stat.S_IMODE((tmp_path / "b.tar").stat().st_mode) == 0o600
    assert run("restore", tmp_path / "b.tar", "--dir", tmp_path / "again") == 0
    restored = tmp_path / "again" / "node.toml"
    assert run("verify", "--config", restored) == 0
    settings = load_settings(restored)
    assert settings.data_dir == tmp_path / "again" / "data"
    with open_database(settings.database).read() as session:
        state = status(session, settings)
        assert [alert.kind for alert in open_alerts(session)] == ["refused"]
    assert (state["instances"], state["studies"][0]["study_uid"]) == (2, STUDY)
    # The restored node goes on receiving.
    store = InstanceStore(open_database(settings.database), settings.data_dir)
    assert store.receive(incoming(mr_image(3))) == 0
    assert "2 files" in capsys.readouterr().out


def test_backup__without_files_holds_the_database_and_the_settings(config: Path, tmp_path: Path) -> None:
    assert run("backup", tmp_path / "b.tar", "--config", config) == 0
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert tar.getnames() == ["manifest.json", "node.db", "node.toml"]


def test_backup__while_another_writes(config: Path, tmp_path: Path) -> None:
    database = open_database(load_settings(config).database)
    with database.write() as session:
        raise_alert(session, "missing_file", "1.2.3", "not committed yet")
        assert run("backup", tmp_path / "b.tar", "--config", config) == 0
    assert run("restore", tmp_path / "b.tar", "--dir", tmp_path / "again") == 0
    with sqlite3.connect(tmp_path / "again" / "data" / "node.db") as copy:
        assert [kind for (kind,) in copy.execute("SELECT kind FROM alerts")] == ["refused"]


def test_backup__never_overwrites(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.tar").write_text("precious")
    assert run("backup", tmp_path / "b.tar", "--config", config) == 1
    assert (tmp_path / "b.tar").read_text() == "precious"
    assert "exists already" in capsys.readouterr().err


def test_backup__a_missing_stored_file_is_told_and_nothing_is_left(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next((tmp_path / "node" / "data" / "instances").rglob("*.dcm")).unlink()
    assert run("backup", tmp_path / "b.tar", "--with-files", "--config", config) == 1
    assert "No such file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["node"]


def test_restore__finds_the_images_that_came_after_the_backup(config: Path, tmp_path: Path) -> None:
    settings = load_settings(config)
    assert run("backup", tmp_path / "b.tar", "--config", config) == 0
    database = open_database(settings.database)
    InstanceStore(database, settings.data_dir).receive(incoming(mr_image(3)))
    database.close()
    for path in settings.data_dir.glob("node.db*"):
        path.unlink()
    assert run("restore", tmp_path / "b.tar", "--dir", config.parent) == 0
    restored = open_database(settings.database)
    reconcile(restored, InstanceStore(restored, settings.data_dir))
    with restored.read() as session:
        assert status(session, settings)["instances"] == 3
    assert run("verify", "--config", config) == 0


def test_restore__leaves_a_node_that_is_there_alone(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("backup", tmp_path / "b.tar", "--config", config)
    before = (tmp_path / "node" / "data" / "node.db").read_bytes()
    assert run("restore", tmp_path / "b.tar", "--dir", tmp_path / "node") == 1
    assert "there is a database" in capsys.readouterr().err
    assert (tmp_path / "node" / "data" / "node.db").read_bytes() == before


@pytest.mark.parametrize("where", ["data_dir", "database_url"])
def test_restore__writes_nothing_outside_its_folder(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    """The settings in the backup name a place outside; a node.toml that is there already decides instead."""
    elsewhere = tmp_path / "elsewhere"
    value = str(elsewhere) if where == "data_dir" else f"sqlite:///{elsewhere}/node.db"
    original = config.read_text()
    backup = tmp_path / "b.tar"
    lines = [line for line in original.splitlines() if not line.startswith((f"{where} ", f"# {where} "))]
    other = tmp_path / "other.toml"
    other.write_text("\n".join([f'{where} = "{value}"', *lines]))
    write_backup(load_settings(config), other, backup, with_files=True)
    assert run("restore", backup, "--dir", tmp_path / "again") == 1
    assert "outside" in capsys.readouterr().err
    assert not elsewhere.exists()
    assert list((tmp_path / "again").iterdir()) == []
    (tmp_path / "again" / "node.toml").write_text(original)
    assert run("restore", backup, "--dir", tmp_path / "again") == 0
    assert (tmp_path / "again" / "data" / "node.db").is_file()


@pytest.mark.parametrize("damage", ["truncated", "changed", "no tar"])
def test_restore__a_damaged_backup_is_refused(
    damage: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "b.tar"
    run("backup", backup, "--with-files", "--config", config)
    data = bytearray(backup.read_bytes())
    with tarfile.open(backup) as tar:
        middle = tar.getmember("node.db").offset_data + 5000
    data[middle : middle + 8] = b"overlaid"
    backup.write_bytes({"truncated": data[: middle + 100], "changed": data, "no tar": b"hello" * 300}[damage])
    assert run("restore", backup, "--dir", tmp_path / "again") == 1
    assert "backup" in capsys.readouterr().err
    assert not (tmp_path / "again" / "data" / "node.db").exists()
