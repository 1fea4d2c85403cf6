"""A node whose settings and database an earlier release wrote: today's code brings them up to date and goes on with them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dicom_node.analysis import jobs
from dicom_node.cli.app import main
from dicom_node.database.connection import open_database
from dicom_node.database.migrations import head
from dicom_node.settings.reading import load_settings
from dicom_node.system.clock import utc_now

HERE = Path(__file__).parent
RELEASES = sorted(path.name for path in HERE.iterdir() if (path / "node.sql").is_file())
ANALYSED = "2.25.257079904698118139249626482632188478075"
NOT_ANALYSABLE, WAITING, RECEIVING = (f"1.2.826.0.1.3680043.10.{number}" for number in (1, 2, 3))


@pytest.fixture(params=RELEASES)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The settings of a node that an earlier release left behind, with its database beside them."""
    shutil.copy(HERE / request.param / "node.toml", tmp_path)
    (tmp_path / "data").mkdir()
    with sqlite3.connect(tmp_path / "data" / "node.db") as connection:
        connection.executescript((HERE / request.param / "node.sql").read_text(encoding="utf-8"))
    connection.close()
    return tmp_path / "node.toml"


def run(*arguments: str) -> int:
    """Exit status of a command."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def printed(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command prints as JSON."""
    capsys.readouterr()
    assert run(*arguments, "--json", "--config", str(config)) == 0
    return json.loads(capsys.readouterr().out)


def upgrade(config: Path) -> None:
    """`init` upgrades the database and keeps the settings."""
    before = config.read_text()
    assert run("init", "--dir", str(config.parent)) == 0
    assert config.read_text() == before
    with sqlite3.connect(config.parent / "data" / "node.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(head(),)]
    connection.close()


def test_upgrade__the_settings_mean_what_they_did(config: Path) -> None:
    settings = load_settings(config)
    assert settings.listener.ae_title == "SPINEONE"
    assert settings.study.quiet_seconds == 2
    assert settings.study.min_slices == 3
    assert (settings.results.presentation_state, settings.results.key_object) == (True, True)
    assert [peer.ae_title for peer in settings.peers] == ["ROUTER"]
    assert [(d.name, d.storage_commitment, d.read_back) for d in settings.destinations] == [
        ("pacs", False, False),
        ("archive", True, True),
    ]
    assert [archive.retrieve for archive in settings.archives] == ["get"]
    assert sorted(receiver.name for receiver in settings.receivers) == ["pacs-team", "pager"]


def test_upgrade__every_study_is_where_it_was(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upgrade(config)
    state = printed(config, capsys, "status")
    assert {study["study_uid"]: (study["state"], study["instances"]) for study in state["studies"]} == {
        ANALYSED: ("analysed", 5),
        NOT_ANALYSABLE: ("not_analysable", 5),
        WAITING: ("waiting", 3),
        RECEIVING: ("receiving", 1),
    }
    assert {study["study_uid"]: (study["sent"], study["to_send"]) for study in state["studies"] if study["sent"]} == {
        ANALYSED: (5, 5),
        NOT_ANALYSABLE: (1, 1),
    }
    assert {alert["kind"] for alert in state["alerts"]} == {"destination_down", "receiver_down"}
    events = printed(config, capsys, "job", "1")["events"]
    assert [event["event"] for event in events] == ["claimed", "succeeded"]


def test_upgrade__the_waiting_job_is_claimed(config: Path) -> None:
    upgrade(config)
    database = open_database(load_settings(config).database)
    with database.write() as session:
        claim = jobs.claim(session, "worker", now=utc_now())
        assert claim is not None
        assert (claim.study_uid, claim.generation, claim.attempts) == (WAITING, 1, 1)
        assert jobs.claim(session, "another", now=utc_now()) is None
    database.close()


def test_upgrade__results_are_sent_again_when_asked(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upgrade(config)
    assert run("resend", ANALYSED, "--config", str(config)) == 0
    study = next(s for s in printed(config, capsys, "status")["studies"] if s["study_uid"] == ANALYSED)
    assert (study["sent"], study["to_send"]) == (0, 10)
