"""Results by STOW-RS to Debian's Orthanc with its DICOMweb plugin, and the proof by QIDO-RS."""

from __future__ import annotations

import shutil
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.cli.set_up import check_partners
from dicom_node.commitment.prover import Prover
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert, OutboxRow, ResultFile
from dicom_node.delivery import outbox
from dicom_node.delivery.deliverer import Delivery
from dicom_node.settings.node import NodeSettings
from dicom_node.system.files import sha256_of
from tests.fakes.certificates import Certificates
from tests.fakes.datasets import STUDY
from tests.fakes.pacs import SC, SR
from tests.fakes.results import add_result
from tests.fakes.tls_relay import running_tls_relay
from tests.peers import ORTHANC, Orthanc, need, running_orthanc, wait_for

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
pytestmark = [pytest.mark.orthanc, need(ORTHANC, PLUGIN)]

# A study with this UID loses its secondary captures; in that one each takes two seconds.
REFUSING, SLOW = f"{STUDY}.409", f"{STUDY}.503"
LUA = f"""
function ReceivedInstanceFilter(dicom, origin)
  if dicom.SOPClassUID ~= '{SC}' then return true end
  if dicom.StudyInstanceUID == '{SLOW}' then os.execute('sleep 2') end
  return dicom.StudyInstanceUID ~= '{REFUSING}'
end
"""
TOO_LATE_S = 30


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lua") / "filter.lua"
    path.write_text(LUA)
    return path


@pytest.fixture(scope="module")
def orthanc(script: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """One that wants a password, over HTTP on this machine."""
    more = {
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"node": "pass"},
        "LuaScripts": [str(script)],
    }
    with running_orthanc(tmp_path_factory.mktemp("orthanc") / "web", plugins=(PLUGIN,), more=more) as running:
        yield running


def settings_for(node_settings: NodeSettings, orthanc: Orthanc, **more: Any) -> NodeSettings:
    destination = {"name": "web", "kind": "dicomweb", "url": f"{orthanc.url}/dicom-web", "read_back": True, **more}
    if orthanc.login:
        destination |= {"user": orthanc.login.partition(":")[0], "password_env": "ORTHANC_PASSWORD"}
    delivery = {"timeout_s": 10, "retry_first_s": 0.01, "retry_max_s": 0.05}
    return NodeSettings(**{**node_settings.model_dump(), "destinations": [destination], "delivery": delivery})


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORTHANC_PASSWORD", "pass")


def deliver(settings: NodeSettings, database: Database) -> list[str]:
    Delivery(settings, database).deliver_due(settings.destinations[0])
    return [row.state for row in rows(database)]


def prove(settings: NodeSettings, database: Database) -> list[str]:
    Prover(settings, database).prove_due(settings.destinations[0])
    return [row.proof for row in rows(database)]


def rows(database: Database) -> list[OutboxRow]:
    with database.read() as session:
        return list(session.scalars(select(OutboxRow).order_by(OutboxRow.id)))


def why_down(database: Database) -> str:
    with database.read() as session:
        return session.scalars(select(Alert.detail).where(Alert.kind == "destination_down")).one()


def files_at(orthanc: Orthanc, study: str) -> list[bytes]:
    return sorted(orthanc.file_of(uid) for uids in orthanc.instances(study).values() for uid in uids)


def files_of(settings: NodeSettings, study: str) -> list[bytes]:
    return sorted(path.read_bytes() for path in (settings.data_dir / "results" / study).rglob("*.dcm"))


def test_results__arrive_byte_for_byte_and_are_proven(
    node_settings: NodeSettings, database: Database, orthanc: Orthanc, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, study = settings_for(node_settings, orthanc), f"{STUDY}.200"
    assert check_partners(settings)
    assert capsys.readouterr().out == "ok: destination web answers\n"
    add_result(database, settings, study, ["web"])
    assert deliver(settings, database) == ["sent", "sent"]
    assert files_at(orthanc, study) == files_of(settings, study)
    assert prove(settings, database) == ["found", "found"]


def test_resent__what_orthanc_has_already_is_stored_again_without_a_second_object(
    node_settings: NodeSettings, database: Database, orthanc: Orthanc
) -> None:
    settings, study = settings_for(node_settings, orthanc), f"{STUDY}.201"
    add_result(database, settings, study, ["web"])
    deliver(settings, database)
    with database.write() as session:
        assert outbox.resend(session, study) == 2
    assert deliver(settings, database) == ["sent", "sent"]
    assert files_at(orthanc, study) == files_of(settings, study)
    assert prove(settings, database) == ["found", "found"]


def test_no_dicom__is_refused_and_the_rest_of_the_study_is_stored(
    node_settings: NodeSettings, database: Database, orthanc: Orthanc
) -> None:
    settings, study = settings_for(node_settings, orthanc), f"{STUDY}.400"
    add_result(database, settings, study, ["web"], (("report", SR), ("overlay", SC), ("table", SC)))
    with database.write() as session:
        file = session.scalars(select(ResultFile).where(ResultFile.role == "table")).one()
        (settings.data_dir / file.path).write_bytes(b"nonsense")
        file.sha256 = sha256_of(settings.data_dir / file.path)
    by_role = dict(zip(("table", "report", "overlay"), deliver(settings, database), strict=True))
    assert by_role == {"table": "failed", "report": "sent", "overlay": "sent"}
    assert files_at(orthanc, study) == files_of(settings, study)[:2]
    with database.read() as session:
        assert session.scalars(select(Alert.kind)).all() == ["delivery_failed"]


def test_a_lie__orthanc_names_as_stored_what_its_own_filter_refuses_and_qido_shows_it(
    node_settings: NodeSettings, database: Database, orthanc: Orthanc
) -> None:
    """Debian's plugin 1.7 answers so. The object is looked for, sent again, and given up with an alert."""
    settings = settings_for(node_settings, orthanc)
    add_result(database, settings, REFUSING, ["web"])
    assert deliver(settings, database) == ["sent", "sent"]

    def is_given_up() -> bool:
        prove(settings, database)
        return deliver(settings, database) == ["sent", "failed"]

    wait_for(is_given_up, timeout_s=TOO_LATE_S, what="the end of the object")
    assert [row.proof for row in rows(database)] == ["found", "none"]
    assert "the destination does not find it (4 times)" in rows(database)[1].last_message
    assert len(files_at(orthanc, REFUSING)) == 1


def test_wrong_password__is_said_by_check_and_by_delivery(
    node_settings: NodeSettings,
    database: Database,
    orthanc: Orthanc,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = settings_for(node_settings, orthanc)
    monkeypatch.setenv("ORTHANC_PASSWORD", "wr0ng-password")
    add_result(database, settings, f"{STUDY}.401", ["web"])
    assert not check_partners(settings)
    said = capsys.readouterr().err
    assert deliver(settings, database) == ["waiting", "waiting"]
    for text in (said, why_down(database)):
        assert "refuses the node's login or rights (status 401)" in text
        assert "wr0ng" not in text
    monkeypatch.setenv("ORTHANC_PASSWORD", "pass")
    wait_for(lambda: deliver(settings, database) == ["sent", "sent"], timeout_s=TOO_LATE_S, what="delivery")


def test_wrong_url__is_said(node_settings: NodeSettings, orthanc: Orthanc, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_for(node_settings, orthanc, url=f"{orthanc.url}/dicomweb")
    assert not check_partners(settings)
    assert "there is no such service at this url (status 404)" in capsys.readouterr().err


def test_killed__in_the_middle_of_a_study_then_everything_arrives_once(
    node_settings: NodeSettings, database: Database, script: Path, tmp_path: Path
) -> None:
    with running_orthanc(tmp_path / "pacs", plugins=(PLUGIN,), more={"LuaScripts": [str(script)]}) as first:
        settings = settings_for(node_settings, first)
        add_result(database, settings, SLOW, ["web"], (("report", SR), ("overlay", SC), ("table", SC)))
        sending = threading.Thread(target=deliver, args=(settings, database))
        sending.start()
        wait_for(lambda: first.instances(SLOW), timeout_s=TOO_LATE_S, what="the first object")
        first.kill()
        sending.join(TOO_LATE_S)
    states = [row.state for row in rows(database)]
    assert states.count("sent") < 3
    assert "waiting" in states
    assert why_down(database)
    with running_orthanc(tmp_path / "pacs", plugins=(PLUGIN,), http_port=first.http_port) as second:
        wait_for(lambda: set(deliver(settings, database)) == {"sent"}, timeout_s=TOO_LATE_S, what="delivery")
        # What Orthanc had not yet written when it was killed is found out and sent again.
        wait_for(
            lambda: (
                (prove(settings, database), set(deliver(settings, database)), files_at(second, SLOW))[-1]
                == files_of(settings, SLOW)
            ),
            timeout_s=TOO_LATE_S,
            what="all objects",
        )


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_tls__only_whom_the_authority_knows_and_only_with_our_certificate(
    node_settings: NodeSettings, database: Database, orthanc: Orthanc, tmp_path: Path
) -> None:
    made = Certificates(tmp_path / "tls")
    made.folder.mkdir()
    made.make_authority()
    for name in ("server", "node"):
        made.make(name)
    made.make("stranger", signed=False)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*made.pair("server"))
    theirs.load_verify_locations(made.folder / "ca.pem")
    theirs.verify_mode = ssl.CERT_REQUIRED
    study = f"{STUDY}.443"
    cert, key = made.pair("node")
    good = {"tls_ca": made.folder / "ca.pem", "tls_cert": cert, "tls_key": key}
    with running_tls_relay(orthanc.http_port, theirs) as port:
        url = f"https://127.0.0.1:{port}/dicom-web"
        wary = settings_for(node_settings, orthanc, url=url, **{**good, "tls_ca": made.pair("stranger")[0]})
        nameless = settings_for(node_settings, orthanc, url=url, tls_ca=good["tls_ca"])
        trusting = settings_for(node_settings, orthanc, url=url, **good)
        add_result(database, wary, study, ["web"])
        assert deliver(wary, database) == ["waiting", "waiting"]
        assert "its certificate is not good" in why_down(database)
        again = "delivery"
        wait_for(lambda: deliver(nameless, database) and rows(database)[0].attempts > 1, timeout_s=9, what=again)
        assert orthanc.instances(study) == {}
        wait_for(lambda: deliver(trusting, database) == ["sent", "sent"], timeout_s=TOO_LATE_S, what=again)
        assert files_at(orthanc, study) == files_of(trusting, study)
        assert prove(trusting, database) == ["found", "found"]
