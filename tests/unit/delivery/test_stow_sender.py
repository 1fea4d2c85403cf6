"""STOW-RS: what an answer means, and what is sent when."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.commitment.prover import Prover
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert, OutboxRow
from dicom_node.delivery.channel import Outcome
from dicom_node.delivery.deliverer import Delivery
from dicom_node.delivery.stow_sender import judge
from dicom_node.dicomweb.stow import StoreAnswer
from dicom_node.settings.node import NodeSettings
from dicom_node.system.log import configure_logging
from tests.fakes.datasets import STUDY
from tests.fakes.pacs import SC, SR, SR_2D
from tests.fakes.raw_server import running_raw_server
from tests.fakes.results import add_result
from tests.fakes.scu import free_port
from tests.fakes.web_archive import WebArchive, module, referenced, running_web_archive

UID = "1.2.3"
TOKEN = "t0ken-of-the-node"


@pytest.fixture
def archive() -> Iterator[WebArchive]:
    with running_web_archive() as running:
        yield running


def settings_for(node_settings: NodeSettings, url: str, **more: Any) -> NodeSettings:
    destination = {"name": "web", "kind": "dicomweb", "url": url, **more}
    values = {**node_settings.model_dump(), "destinations": [destination]}
    return NodeSettings(**{**values, "delivery": {"timeout_s": 2, "retry_first_s": 60}})


@pytest.fixture
def settings(node_settings: NodeSettings, archive: WebArchive) -> NodeSettings:
    return settings_for(node_settings, archive.url, read_back=True)


def rows(database: Database) -> list[OutboxRow]:
    with database.read() as session:
        return list(session.scalars(select(OutboxRow).order_by(OutboxRow.id)))


def alerts(database: Database) -> list[tuple[str, str]]:
    with database.read() as session:
        return [(row.kind, row.detail) for row in session.scalars(select(Alert).where(Alert.closed_at.is_(None)))]


def deliver(settings: NodeSettings, database: Database) -> list[OutboxRow]:
    Delivery(settings, database).deliver_due(settings.destinations[0])
    return rows(database)


def prove(settings: NodeSettings, database: Database) -> list[str]:
    Prover(settings, database).prove_due(settings.destinations[0])
    return [row.proof for row in rows(database)]


# ---------------------------------------------------------------- what an answer means


@pytest.mark.parametrize(
    ("status", "stored", "failed", "outcome", "was_there", "words"),
    [
        (200, {UID: 0}, {}, Outcome.SENT, False, "stored"),
        (200, {UID: 0xB000}, {}, Outcome.SENT, False, "0xB000 stored, with a warning"),
        (202, {UID: 0xB007}, {"1.2.4": 0xA700}, Outcome.SENT, False, "0xB007"),
        (200, {UID: 0xFFFF}, {}, Outcome.SENT, False, "unknown warning"),
        (409, {}, {UID: 0xA700}, Outcome.RETRY, False, "0xA700 the destination is out of resources"),
        (409, {}, {UID: 0x0110}, Outcome.RETRY, False, "0x0110 processing failure"),
        (202, {}, {UID: 0xA900}, Outcome.FAILED, False, "0xA900"),
        (409, {}, {UID: 0xC000}, Outcome.FAILED, False, "cannot understand"),
        (409, {}, {UID: 0x0124}, Outcome.FAILED, False, "does not allow"),
        (409, {}, {UID: 0x0111}, Outcome.SENT, True, "was there already"),
        (409, {}, {UID: 0}, Outcome.FAILED, False, "refused without a reason"),
        (200, {UID: 0}, {UID: 0xA900}, Outcome.FAILED, False, "0xA900"),
        (200, {}, {}, Outcome.SENT, True, "does not name the object"),
        (200, {"1.2.4": 0}, {}, Outcome.SENT, True, "does not name the object"),
        (202, {"1.2.4": 0}, {}, Outcome.RETRY, False, "does not name the object"),
        (409, {}, {}, Outcome.RETRY, False, "does not name the object"),
        (400, {}, {}, Outcome.FAILED, False, "400"),
        (413, {}, {}, Outcome.FAILED, False, "too large"),
        (415, {}, {}, Outcome.FAILED, False, "415"),
        (422, {}, {}, Outcome.FAILED, False, "422"),
    ],
)
def test_judge__by_the_reasons_of_the_object(
    status: int, stored: dict[str, int], failed: dict[str, int], outcome: Outcome, was_there: bool, words: str
) -> None:
    answer = judge(StoreAnswer(status, stored, failed), UID)
    assert answer is not None
    assert (answer.outcome, answer.was_there) == (outcome, was_there)
    assert words in answer.message


@pytest.mark.parametrize("status", [204, 301, 401, 403, 404, 405, 408, 429, 500, 502, 503])
def test_judge__a_status_that_is_not_about_the_object(status: int) -> None:
    assert judge(StoreAnswer(status, {}, {}), UID) is None


# ---------------------------------------------------------------- sending


def test_send__bytes_at_the_archive_equal_the_files_and_qido_proves_them(
    settings: NodeSettings, database: Database, archive: WebArchive
) -> None:
    sent = add_result(database, settings, STUDY, ["web"])
    assert [(row.state, row.proof) for row in deliver(settings, database)] == [("sent", "wanted")] * 2
    files = [path.read_bytes() for path in sorted((settings.data_dir / "results").rglob("*.dcm"))]
    assert sorted(archive.objects.values()) == sorted(files)
    assert prove(settings, database) == ["found", "found"]
    queries = sorted(path for method, path, _ in archive.asked if method == "GET")
    asked = sorted(f"/dicom-web/studies/{STUDY}/series/{dataset.SeriesInstanceUID}/instances" for dataset in sent)
    assert [path.partition("?")[0] for path in queries] == asked
    assert [uid for uid in archive.objects if any(path.endswith(f"={uid}") for path in queries)] == list(
        archive.objects
    )


def test_proof__what_is_not_found_is_looked_for_again(
    settings: NodeSettings, database: Database, archive: WebArchive
) -> None:
    add_result(database, settings, STUDY, ["web"])
    deliver(settings, database)
    archive.objects.popitem()
    assert prove(settings, database) == ["found", "wanted"]
    assert rows(database)[1].proof_attempts == 1


@pytest.mark.parametrize(
    "said",
    [(200, b"[1,2"), (200, b"<html>"), (200, {"a": 1}), (200, [None, 3, {"00080018": 7}]), (500, b""), (401, b"")],
    ids=["half", "html", "object", "nonsense", "500", "401"],
)
def test_proof__an_answer_that_cannot_be_read_proves_nothing(
    settings: NodeSettings, database: Database, archive: WebArchive, said: tuple[int, Any]
) -> None:
    add_result(database, settings, STUDY, ["web"])
    deliver(settings, database)
    archive.finds = lambda: said
    assert prove(settings, database) == ["wanted", "wanted"]
    assert [row.state for row in rows(database)] == ["sent", "sent"]


def test_partial_failure__each_object_goes_its_own_way(
    settings: NodeSettings, database: Database, archive: WebArchive
) -> None:
    objects = add_result(database, settings, STUDY, ["web"], (("report", SR), ("overlay", SC), ("table", SC)))
    _, overlay, table = (str(dataset.SOPInstanceUID) for dataset in objects)
    refusals = {overlay: 0xA900, table: 0xA700}
    archive.says = lambda uid: (
        (409, module(failed=[referenced(uid, failure=refusals[uid])])) if uid in refusals else None
    )
    found = {row.last_status: row.state for row in deliver(settings, database)}
    assert found == {0: "sent", 0xA900: "failed", 0xA700: "waiting"}
    assert [kind for kind, _ in alerts(database)] == ["delivery_failed"]


def test_second_form__goes_where_the_class_of_the_first_is_refused(
    settings: NodeSettings, database: Database, archive: WebArchive
) -> None:
    objects = add_result(database, settings, STUDY, ["web"], (("report", SR), ("report_2d", SR_2D)))
    first, second = (str(dataset.SOPInstanceUID) for dataset in objects)
    archive.says = lambda uid: (409, module(failed=[referenced(uid, failure=0x0122)])) if uid == first else None
    (row,) = deliver(settings, database)
    assert (row.state, row.is_bound, list(archive.objects)) == ("sent", True, [second])


def test_first_form__is_kept_to_once_it_was_taken(
    settings: NodeSettings, database: Database, archive: WebArchive
) -> None:
    objects = add_result(database, settings, STUDY, ["web"], (("report", SR), ("report_2d", SR_2D)))
    (row,) = deliver(settings, database)
    assert (row.state, row.is_bound, list(archive.objects)) == ("sent", True, [str(objects[0].SOPInstanceUID)])


def test_a_status_without_a_module__is_proven_even_if_nobody_asked(
    node_settings: NodeSettings, database: Database, archive: WebArchive
) -> None:
    settings = settings_for(node_settings, archive.url)
    (report, _) = add_result(database, settings, STUDY, ["web"])
    archive.says = lambda uid: (200, b"") if uid == str(report.SOPInstanceUID) else None
    proofs = {row.last_message[:19]: row.proof for row in deliver(settings, database)}
    assert proofs == {"stored, says the st": "wanted", "0x0000 stored": "none"}
    assert sorted(prove(settings, database)) == ["none", "wanted"]


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "refuses the node's login"), (403, "refuses the node's login"), (302, "redirects"), (404, "no such service"),
     (503, "status 503"), (429, "status 429")],
)  # fmt: skip
def test_a_server_that_lets_nothing_through__is_tried_again_with_an_alert(
    settings: NodeSettings, database: Database, archive: WebArchive, status: int, words: str
) -> None:
    add_result(database, settings, STUDY, ["web"])
    archive.headers = {"Location": "http://elsewhere.example/"}
    archive.says = lambda uid: (status, b"<html>")
    assert [(row.state, row.attempts) for row in deliver(settings, database)] == [("waiting", 1)] * 2
    ((kind, detail),) = alerts(database)
    assert kind == "destination_down"
    assert words in detail
    archive.says = lambda uid: None
    with database.write() as session:
        for row in session.scalars(select(OutboxRow)):
            row.next_attempt_at = row.created_at
    assert [row.state for row in deliver(settings, database)] == ["sent", "sent"]
    assert alerts(database) == []


def test_a_web_page__is_no_answer(settings: NodeSettings, database: Database, archive: WebArchive) -> None:
    """A login page comes with status 200: nothing was stored."""
    add_result(database, settings, STUDY, ["web"])
    archive.headers = {"Content-Type": "text/html; charset=utf-8"}
    archive.says = lambda uid: (200, b"<html>Please log in, DOE^JANE")
    assert [row.state for row in deliver(settings, database)] == ["waiting", "waiting"]
    ((_, detail),) = alerts(database)
    assert "it answers with a web page" in detail
    assert "DOE" not in detail


def test_no_server__says_so(node_settings: NodeSettings, database: Database) -> None:
    settings = settings_for(node_settings, f"http://127.0.0.1:{free_port()}/dicom-web")
    add_result(database, settings, STUDY, ["web"])
    assert {row.state for row in deliver(settings, database)} == {"waiting"}
    assert "Connection refused" in alerts(database)[0][1]


@pytest.mark.parametrize("blocks", [[b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"], [b"nonsense\r\n\r\n"], []])
def test_an_answer_that_breaks_off__is_none(
    node_settings: NodeSettings, database: Database, blocks: list[bytes]
) -> None:
    with running_raw_server(blocks) as server:
        settings = settings_for(node_settings, f"http://127.0.0.1:{server.port}/dicom-web")
        add_result(database, settings, STUDY, ["web"])
        assert {row.state for row in deliver(settings, database)} == {"waiting"}


# ---------------------------------------------------------------- secrets


def test_login__by_token_or_password_and_no_log_holds_them(
    node_settings: NodeSettings,
    database: Database,
    archive: WebArchive,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    monkeypatch.setenv("PACS_PASSWORD", TOKEN)
    ways: list[tuple[dict[str, Any], str]] = [
        ({"token_file": tmp_path / "token"}, f"Bearer {TOKEN}"),
        ({"user": "node", "password_env": "PACS_PASSWORD"}, "Basic bm9kZTp0MGtlbi1vZi10aGUtbm9kZQ=="),
    ]
    configure_logging("debug")
    logging.getLogger("urllib3").debug("may hold a URL")
    for number, (login, header) in enumerate(ways):
        settings = settings_for(node_settings, archive.url, read_back=True, **login)
        add_result(database, settings, f"{STUDY}.{number}", ["web"])
        archive.token = "Bearer another"
        deliver(settings, database)
        (_, detail) = alerts(database)[0]
        assert "refuses the node's login or rights (status 401)" in detail
        archive.token = header
        with database.write() as session:
            for row in session.scalars(select(OutboxRow)):
                row.next_attempt_at = row.created_at
        deliver(settings, database)
        prove(settings, database)
    assert {row.proof for row in rows(database)} == {"found"}
    out = capsys.readouterr()
    everything = out.out + out.err + json.dumps([row.last_message for row in rows(database)]) + str(alerts(database))
    assert "read_back" in everything
    for secret in (TOKEN, "bm9kZ", "may hold a URL"):
        assert secret not in everything


def test_secret__that_is_not_there_is_said_before_anything_is_sent(
    node_settings: NodeSettings, database: Database, archive: WebArchive, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("")
    for login, words in (({"token_file": tmp_path / "token"}, "is empty"), ({"token_env": "NONE_SUCH"}, "is not set")):
        settings = settings_for(node_settings, archive.url, **login)
        add_result(database, settings, f"{STUDY}.{len(words)}", ["web"])
        deliver(settings, database)
        assert words in alerts(database)[0][1]
    assert archive.asked == []


def test_files_for_tls__that_are_none_are_said(
    node_settings: NodeSettings, database: Database, archive: WebArchive, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    settings = settings_for(node_settings, archive.url.replace("http:", "https:"), tls_ca=tmp_path / "ca.pem")
    add_result(database, settings, STUDY, ["web"])
    assert deliver(settings, database)[0].state == "waiting"
    assert "the files for TLS cannot be used" in alerts(database)[0][1]


def test_audit__names_the_url_and_the_objects(settings: NodeSettings, database: Database, archive: WebArchive) -> None:
    add_result(database, settings, STUDY, ["web"])
    deliver(settings, database)
    prove(settings, database)
    text = "".join(path.read_text() for path in (settings.data_dir / "audit").iterdir())
    assert text.count("Begin Transferring DICOM Instances") == 1
    assert text.count("DICOM Instances Transferred") == 1
    assert text.count('originalText="Query"') == 1
    assert f'UserID="{archive.url}"' in text
