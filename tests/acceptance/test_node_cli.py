"""`dicom-node` as a person uses it: what it prints and how it exits."""

from __future__ import annotations

import getpass
import json
import sqlite3
import sys
from pathlib import Path

import pydicom
import pytest

from dicom_node.alerts.record import raise_alert
from dicom_node.cli.app import main
from dicom_node.cli.tables import short
from dicom_node.database.connection import open_database
from dicom_node.images.store import InstanceStore
from dicom_node.settings.reading import load_settings
from tests.fakes import audit
from tests.fakes.datasets import STUDY, incoming, mr_image, save
from tests.fakes.model import write_tiny_model
from tests.fakes.post import running_web_server
from tests.fakes.scu import free_port


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def config(tmp_path: Path, model: Path) -> Path:
    """A node that `init` made, with the tiny model."""
    run("init", "--dir", str(tmp_path))
    path = tmp_path / "node.toml"
    path.write_text(path.read_text().replace('path = "default"', f'path = "{model}"'))
    return path


def run(*arguments: str) -> int:
    """Exit status of a command."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def add_destination(config: Path, port: int) -> None:
    with config.open("a") as file:
        file.write(f'\n[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\n')


def test_init__makes_a_node_that_can_be_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", "--dir", str(tmp_path / "node")) == 0
    config = tmp_path / "node" / "node.toml"
    assert "# Receiving: the DICOM storage SCP." in config.read_text()
    # It may name hosts and hold a password of the database.
    assert config.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "node" / "data" / "node.db").is_file()
    assert run("status", "--config", str(config)) == 0
    assert "no open alerts" in capsys.readouterr().out


def test_init__keeps_settings_and_data(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = config.read_text()
    assert run("init", "--dir", str(config.parent)) == 0
    assert config.read_text() == before
    assert "(kept)" in capsys.readouterr().out


def test_check__good(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "--config", str(config)) == 0
    assert "ok: settings, database, model" in capsys.readouterr().out


def test_check__settings_are_all_listed_and_exit_2(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text('[listener]\nport = 99999\nae_title = "SEVENTEEN-LETTERS"\nspeed = 1\n')
    assert run("check", "--config", str(config)) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("error: ") for line in errors)


def add_webhook(config: Path, port: int) -> None:
    with config.open("a") as file:
        file.write(f'\n[[webhooks]]\nname = "pager"\nurl = "http://127.0.0.1:{port}/hook"\n')


def test_check__goes_to_the_receivers_of_alerts(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_web_server() as server:
        add_webhook(config, server.port)
        assert run("check", "--config", str(config)) == 0
        assert "ok: receiver pager answers" in capsys.readouterr().out
        assert not server.posts
    assert run("check", "--config", str(config)) == 1
    assert "error: receiver pager: 127.0.0.1:" in capsys.readouterr().err


def test_alerts__lists_open_ones_and_sends_a_test(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("alerts", "--test", "--config", str(config)) == 1
    assert "there are no receivers" in capsys.readouterr().err
    with running_web_server() as server:
        add_webhook(config, server.port)
        assert run("alerts", "--config", str(config)) == 0
        assert run("alerts", "--test", "--config", str(config)) == 0
        assert "ok: receiver pager was sent a test message" in capsys.readouterr().out
        assert json.loads(server.posts[0][2])["text"] == "[SPINEONE] test of alerts"
        server.status = 403
        assert run("alerts", "--test", "--config", str(config)) == 1
        assert "error: receiver pager: the web server says 403" in capsys.readouterr().err
    database = open_database(load_settings(config).database)
    with database.write() as session:
        raise_alert(session, "refused", "10.0.0.1: unknown calling AE title", "calling AE X")
    assert run("alerts", "--json", "--config", str(config)) == 0
    assert json.loads(capsys.readouterr().out)[0]["kind"] == "refused"
    assert run("status", "--config", str(config)) == 0
    assert "receivers of alerts" in capsys.readouterr().out


def test_check__model_and_database_are_listed_together(
    config: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{}")
    config.write_text(config.read_text().replace(str(model), str(damaged)))
    (tmp_path / "data" / "node.db").unlink()
    assert run("check", "--config", str(config)) == 2
    errors = capsys.readouterr().err
    assert "no database" in errors
    assert f"model {damaged}" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("scheme", "says"),
    [
        ("postgresql+psycopg", f'psycopg is not installed: {sys.executable} -m pip install "psycopg[binary]>=3.1"'),
        (
            "postgresql+psycopg2",
            "psycopg2 is not installed: write postgresql+psycopg:// at the beginning of database_url",
        ),
    ],
)
def test_check__a_missing_driver_of_the_database_names_the_command(
    scheme: str, says: str, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("SPINEONE_DATABASE_URL", f"{scheme}://user:secret@127.0.0.1/name")
    assert run("check", "--config", str(config)) == 2
    said = capsys.readouterr().err
    assert f"error: the database driver {says}" in said
    assert "secret" not in said


def test_check__a_refused_connection_is_called_that_and_no_log_line_is_among_the_answers(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    add_destination(config, port)
    with config.open("a") as file:
        file.write('\n[[archives]]\nname = "far"\nae_title = "FAR"\nhost = "no-such-host.invalid"\nport = 104\n')
    assert run("check", "--config", str(config)) == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[0] == (
        f"error: destination pacs: PACS cannot be reached: connection refused at 127.0.0.1:{port}"
    )
    assert said.err.splitlines()[1].startswith("error: archive far: FAR cannot be reached: the name no-such-host.inv")
    assert len(said.err.splitlines()) == 2
    assert "{" not in said.out + said.err


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["status", "--config", "gone.toml"], 2, "no such settings file"),
        (["serve", "--config", "gone.toml"], 2, "no such settings file"),
        (["nonsense"], 2, "No such command"),
        (["process", "gone.dcm", "--out", "x"], 2, "does not exist"),
    ],
)
def test_usage__is_one_clear_message(
    arguments: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == status
    errors = capsys.readouterr().err
    assert says in errors
    assert "Traceback" not in errors


def test_status__a_damaged_database_is_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "data" / "node.db").write_bytes(b"not a database" * 100)
    assert run("status", "--config", str(config)) == 2
    errors = capsys.readouterr().err
    assert "cannot be used" in errors
    assert len(errors.splitlines()) == 1


def test_status__a_newer_database_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(config.parent / "data" / "node.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert run("status", "--config", str(config)) == 2
    assert "newer version" in capsys.readouterr().err


def test_status__shows_studies_and_alerts(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings(config)
    database = open_database(settings.database)
    InstanceStore(database, settings.data_dir).receive(incoming(mr_image()))
    with database.write() as session:
        raise_alert(session, "refused", "10.0.0.1: wrong called AE title", "calling AE [OLD]")
    capsys.readouterr()
    assert run("status", "--config", str(config)) == 0
    shown = capsys.readouterr().out
    assert short(STUDY) in shown
    assert STUDY not in shown
    assert "receiving" in shown
    assert "calling AE [OLD]" in shown
    assert run("status", "--wide", "--config", str(config)) == 0
    assert STUDY in capsys.readouterr().out
    assert run("status", "--json", "--config", str(config)) == 0
    state = json.loads(capsys.readouterr().out)
    assert state["studies"][0]["state"] == "receiving"
    assert run("acknowledge", str(state["alerts"][0]["id"]), "--config", str(config)) == 0
    assert run("acknowledge", str(state["alerts"][0]["id"]), "--config", str(config)) == 1


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["job", "7"], "there is no job 7"),
        (["retry", "7"], "there is no job 7"),
        (["resend", "1.2.3"], "no results of study 1.2.3"),
    ],
)
def test_what_is_not_there__exits_1(
    config: Path, command: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*command, "--config", str(config)) == 1
    assert says in capsys.readouterr().err


_DESTINATION = '\n[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'


@pytest.mark.parametrize("command", ["flush", "pause", "resume"])
def test_unknown_destination__exits_2_and_names_the_known_ones(
    config: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text() + _DESTINATION)
    assert run(command, "pax", "--config", str(config)) == 2
    assert "'pax' must name one of [[destinations]] (there are: pacs)" in capsys.readouterr().err


def test_pause_and_resume__are_told_and_audited(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text() + _DESTINATION)
    settings = load_settings(config)
    told = []
    for command in ("pause", "pause", "status", "flush", "resume", "resume"):
        name = [] if command == "status" else ["pacs"]
        assert run(command, *name, "--config", str(config)) == 0
        told.append(capsys.readouterr().out)
    assert "pacs is paused" in told[0]
    assert "paused already" in told[1]
    assert "paused since" in told[2]
    assert "0 objects" in told[3]
    assert "no longer paused" in told[4]
    assert "was not paused" in told[5]
    alerts = [audit.detail(m, "Alert Description").split(" /")[0] for m in audit.messages(settings.data_dir)]
    assert alerts == [
        f"{what} destination pacs" for what in ("pause of", "pause of", "flush of", "resuming", "resuming")
    ]


def test_audit__says_who_gave_which_command_and_whether_it_was_carried_out(config: Path) -> None:
    settings = load_settings(config)
    with open_database(settings.database).write() as session:
        raise_alert(session, "refused", "somebody", "again")
    tarball = config.parent / "backup.tar"
    for status, *command in [
        (0, "acknowledge", "1"),
        (1, "acknowledge", "1"),
        (1, "retry", "7"),
        (1, "resend", "1.2.3"),
        (0, "backup", str(tarball)),
    ]:
        assert run(*command, "--config", str(config)) == status
    new = config.parent / "new"
    assert run("restore", str(tarball), "--dir", str(new)) == 0
    found = [*audit.messages(settings.data_dir), *audit.messages(new / "data")]
    assert [
        (audit.detail(m, "Alert Description").split(" /")[0], m[0].attrib["EventOutcomeIndicator"]) for m in found
    ] == [
        ("acknowledging alert 1", "0"),
        ("acknowledging alert 1", "8"),
        ("retry of job 7", "8"),
        ("resend of study 1.2.3", "8"),
        ("backup to", "0"),
        ("restore of the backup", "0"),
    ]
    assert {audit.requestor(m) for m in found} == {getpass.getuser()}
    assert {audit.code_of(m, "EventIdentification/EventTypeCode") for m in found} == {"110132"}


@pytest.mark.parametrize("patient", [False, True])
def test_audit__of_files_that_are_processed(config: Path, tmp_path: Path, patient: bool) -> None:
    config.write_text(config.read_text().replace("patient = false", f"patient = {str(patient).lower()}"))
    for number in range(1, 6):
        save(mr_image(number), tmp_path / "SECRET" / f"{number}.dcm")
    assert run("process", str(tmp_path / "SECRET"), "--out", str(tmp_path / "out"), "--config", str(config)) == 0
    data = load_settings(config).data_dir
    imported, exported = audit.messages(data)
    assert audit.classes(imported) == {mr_image().SOPClassUID: 5}
    assert audit.roles(imported)["110152"] == audit.roles(exported)["110153"] == getpass.getuser()
    assert audit.roles(exported)["110154"] == (tmp_path / "out").as_uri()
    assert (b"SECRET-ID" in b"".join(audit.lines(data))) == patient
    assert (b"SECRET" in b"".join(audit.lines(data))) == patient


def test_verify__finds_a_changed_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings(config)
    database = open_database(settings.database)
    InstanceStore(database, settings.data_dir).receive(incoming(mr_image()))
    assert run("verify", "--config", str(config)) == 0
    next((settings.data_dir / "instances").rglob("*.dcm")).write_bytes(b"changed")
    assert run("verify", "--config", str(config)) == 1
    assert "has other bytes" in capsys.readouterr().err


def test_purge__says_what_is_kept_and_why(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings(config)
    database = open_database(settings.database)
    assert InstanceStore(database, settings.data_dir).receive(incoming(mr_image())) == 0
    database.close()
    capsys.readouterr()
    assert run("purge", "--config", str(config)) == 1
    assert "keep_days is 0" in capsys.readouterr().err
    assert run("purge", "--older-than", "0", "--dry-run", "--config", str(config)) == 0
    said = capsys.readouterr().out
    assert f"{STUDY}: 1 files, 0.0 MB, kept: its images are still coming" in said
    assert "would delete: 0 of 1 studies" in said
    assert run("purge", "--study", STUDY, "--json", "--config", str(config)) == 1
    assert json.loads(capsys.readouterr().out)[0]["kept_because"] == "its images are still coming"


def test_process__writes_the_results_of_each_study(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exam = tmp_path / "exam"
    for study in ("1.2.3", "1.2.4"):
        for number in range(1, 6):
            save(mr_image(number, study=study), exam / study / f"{number}.dcm")
    (exam / "notes.txt").write_text("no DICOM")
    out = tmp_path / "out"
    assert run("process", str(exam), "--out", str(out), "--config", str(config)) == 0
    printed = capsys.readouterr()
    assert "notes.txt" in printed.err
    for study in ("1.2.3", "1.2.4"):
        assert study in printed.out
        findings = json.loads((out / study / "findings.json").read_text())
        assert findings["study_uid"] == study
        report = pydicom.dcmread(out / study / "sr.dcm")
        assert report.StudyInstanceUID == study
        assert (out / study / "overlay.dcm").exists() == (findings["status"] == "analysed")


def test_process__without_any_study_exits_1(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    out = str(tmp_path / "out")
    assert run("process", str(tmp_path / "notes.txt"), "--out", out, "--config", str(config)) == 1
    assert "no DICOM study" in capsys.readouterr().err
