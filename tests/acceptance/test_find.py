"""`dicom-node find` and `study`: where is my study, and what became of it?"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from dicom_node.cli.app import main
from dicom_node.cli.tables import short
from dicom_node.database.connection import Database, open_database
from dicom_node.database.tables import StudyRow
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from dicom_node.system.clock import utc_now
from dicom_node.web.status_page import render_page
from tests.fakes.analyses import analyse_next
from tests.fakes.datasets import STUDY, incoming, mr_image
from tests.unit.upkeep.test_retention import receive

OTHER = f"{STUDY}.77"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A node with one analysed study, whose last image came three days ago, and one that is receiving."""
    with pytest.raises(SystemExit) as ended:
        main(["init", "--dir", str(tmp_path)])
    assert not ended.value.code
    path = tmp_path / "node.toml"
    path.write_text(
        path.read_text() + '\n[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'
    )
    settings = load_settings(path)
    database = open_database(settings.database)
    fill(settings, database)
    database.close()
    return path


def fill(settings: NodeSettings, database: Database) -> None:
    store = InstanceStore(database, settings.data_dir)
    receive(database, store, *range(1, 6))
    analyse_next(database, settings)
    with database.write() as session:
        session.execute(update(StudyRow).values(last_received_at=utc_now() - timedelta(days=3)))
    image = incoming(mr_image(1, study=OTHER))
    assert store.receive(image) == 0


def ask(config: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> Any:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json", "--config", str(config)])
    assert not ended.value.code
    return json.loads(capsys.readouterr().out)


def day(days_ago: int) -> str:
    return f"{(utc_now() - timedelta(days=days_ago)).astimezone():%Y-%m-%d}"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), [OTHER, STUDY]),
        (("--uid", STUDY[-9:]), [OTHER, STUDY]),
        (("--uid", ".77"), [OTHER]),
        (("--uid", "%"), []),
        (("--state", "analysed"), [STUDY]),
        (("--state", "receiving"), [OTHER]),
        (("--state", "failed"), []),
        (("--state", "not analysable"), []),
        (("--peer", "NOBODY"), []),
        (("--since", day(1)), [OTHER]),
        (("--until", day(3)), [STUDY]),
        (("--since", day(3), "--until", day(3)), [STUDY]),
        (("--limit", "1"), [OTHER]),
    ],
)
def test_find(config: Path, arguments: tuple[str, ...], found: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    rows = ask(config, "find", *arguments, capsys=capsys)
    assert [row["study_uid"] for row in rows] == found


def test_find__by_the_sender(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sender = incoming(mr_image(1)).calling_ae
    assert len(ask(config, "find", "--peer", sender, capsys=capsys)) == 2


def test_study__says_all_that_became_of_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(config, "study", STUDY, capsys=capsys)
    assert (found["state"], found["instances"]) == ("analysed", 5)
    assert [series["instances"] for series in found["series"]] == [5]
    (result,) = found["results"]
    assert len(result["findings"]["findings"]) == 10
    assert {"findings", "report", "overlay"} <= {file["role"] for file in result["files"]}
    assert {(row["destination"], row["state"]) for row in result["deliveries"]} == {("pacs", "waiting")}
    assert [event["event"] for event in found["jobs"][0]["events"]] == ["claimed", "succeeded"]


def test_study__a_part_of_the_uid_is_enough_if_only_one_has_it(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(config, "study", ".77", capsys=capsys)["study_uid"] == OTHER
    for part, says in ((STUDY[:8], "several studies have"), ("9.9.9.9", "there is no study")):
        with pytest.raises(SystemExit) as ended:
            main(["study", part, "--config", str(config)])
        assert ended.value.code == 1
        assert says in capsys.readouterr().err


def test_for_a_person__every_part_is_shown(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["find", "--limit", "1"], ("receiving", "1 more; --limit shows them")),
        (["study", STUDY], ("analysed", "series", "L5-S1", "succeeded", "pacs", "report")),
    ):
        with pytest.raises(SystemExit):
            main([*arguments, "--config", str(config)])
        out = capsys.readouterr().out
        assert [word for word in words if word not in out] == []


def test_find__an_unknown_state_exits_2(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["find", "--state", "lost", "--config", str(config)])
    assert ended.value.code == 2
    assert "must be one of receiving, waiting" in capsys.readouterr().err


def test_study__is_found_by_the_short_form_that_tables_show(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(config, "study", short(OTHER), capsys=capsys)["study_uid"] == OTHER


def test_study__which_is_analysed_says_so_once(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["study", STUDY, "--config", str(config)])
    assert f"{STUDY}  analysed\n" in capsys.readouterr().out


def test_an_analysed_study_that_grows_keeps_showing_its_result(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(config)
    database = open_database(settings.database)
    InstanceStore(database, settings.data_dir).receive(incoming(mr_image(9)))
    assert {(row["state"], row["result"]) for row in ask(config, "find", capsys=capsys)} == {
        ("receiving", "analysed"),
        ("receiving", None),
    }
    for command in (("study", STUDY), ("status",)):
        with pytest.raises(SystemExit):
            main([*command, "--config", str(config)])
        assert "receiving (analysed before)" in " ".join(capsys.readouterr().out.split())
    assert "receiving (analysed before)" in render_page(settings, database)
    database.close()


def test_status__a_paused_destination_has_no_next_attempt(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(config, "status", capsys=capsys)["destinations"][0]["next_attempt_at"] is not None
    with pytest.raises(SystemExit):
        main(["pause", "pacs", "--config", str(config)])
    capsys.readouterr()
    (destination,) = ask(config, "status", capsys=capsys)["destinations"]
    assert (destination["next_attempt_at"], destination["waiting"] > 0) == (None, True)
