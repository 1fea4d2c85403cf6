"""A report at a FHIR server: once, however often it is sent; proven by a search."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.cli.set_up import check_partners
from dicom_node.commitment.prover import Prover
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert, OutboxRow, ResultRow
from dicom_node.delivery import outbox
from dicom_node.delivery.deliverer import Delivery
from dicom_node.settings.node import NodeSettings
from spineone_core.findings import Detection, Reason
from tests.fakes.fhir_schema import problems
from tests.fakes.fhir_server import FhirStore, running_fhir_server
from tests.fakes.pacs import SR, SR_2D
from tests.fakes.results import add_result
from tests.unit.synthetic import STUDY, analysed, refused

FORMS = (("report", SR), ("report_2d", SR_2D))
TOKEN = "t0ken-of-the-node"


@pytest.fixture
def server() -> Iterator[FhirStore]:
    with running_fhir_server() as running:
        yield running


def settings_for(node_settings: NodeSettings, server: FhirStore, **more: Any) -> NodeSettings:
    destination = {
        "name": "records",
        "kind": "fhir",
        "url": server.url,
        "patient_system": "urn:oid:2.999.1",
        "accession_system": "urn:oid:2.999.2",
        "read_back": True,
        **more,
    }
    values = {**node_settings.model_dump(), "destinations": [destination]}
    return NodeSettings(**{**values, "delivery": {"timeout_s": 2, "retry_first_s": 60}})


@pytest.fixture
def settings(node_settings: NodeSettings, server: FhirStore) -> NodeSettings:
    return settings_for(node_settings, server)


def add(database: Database, settings: NodeSettings, detection: Detection | None = None) -> str:
    """A stored result; the UID of its report."""
    (report, _) = add_result(database, settings, STUDY, ["records"], FORMS)
    with database.write() as session:
        session.scalars(select(ResultRow)).one().findings = (detection or analysed()).dumps()
    return str(report.SOPInstanceUID)


def rows(database: Database) -> list[OutboxRow]:
    with database.read() as session:
        return list(session.scalars(select(OutboxRow).order_by(OutboxRow.id)))


def why(database: Database) -> list[tuple[str, str]]:
    with database.read() as session:
        return [(row.kind, row.detail) for row in session.scalars(select(Alert).where(Alert.closed_at.is_(None)))]


def deliver(settings: NodeSettings, database: Database) -> list[str]:
    with database.write() as session:
        outbox.wake(session, "records")
    Delivery(settings, database).deliver_due(settings.destinations[0])
    return [row.state for row in rows(database)]


def prove(settings: NodeSettings, database: Database) -> list[str]:
    Prover(settings, database).prove_due(settings.destinations[0])
    return [row.proof for row in rows(database)]


def test_report__arrives_valid_and_is_found(settings: NodeSettings, database: Database, server: FhirStore) -> None:
    uid = add(database, settings)
    assert deliver(settings, database) == ["sent"]
    (bundle,) = server.bundles
    assert problems(bundle) == []
    (report,) = server.of("DiagnosticReport")
    observations = {key for key in server.resources if key.startswith("Observation/")}
    assert {result["reference"] for result in report["result"]} == observations
    assert len(observations) == 10
    assert report["identifier"][0]["value"] == f"urn:oid:{uid}"
    assert prove(settings, database) == ["found"]


def test_retry__makes_no_second_report(settings: NodeSettings, database: Database, server: FhirStore) -> None:
    add(database, settings)
    server.deaf = True
    assert deliver(settings, database) == ["waiting"]
    assert len(server.of("DiagnosticReport")) == 1
    assert deliver(settings, database) == ["sent"]
    assert len(server.bundles) == 2
    assert (len(server.of("DiagnosticReport")), len(server.of("Observation"))) == (1, 10)
    assert rows(database)[0].last_message == "was there already"
    assert prove(settings, database) == ["found"]
    with database.write() as session:
        outbox.resend(session, STUDY)
    assert deliver(settings, database) == ["sent"]
    assert (len(server.of("DiagnosticReport")), len(server.of("Observation"))) == (1, 10)


def test_lost__a_report_that_is_not_found_is_looked_for_again(
    settings: NodeSettings, database: Database, server: FhirStore
) -> None:
    add(database, settings)
    deliver(settings, database)
    server.resources.clear()
    assert prove(settings, database) == ["wanted"]
    assert rows(database)[0].proof_attempts == 1


def test_not_analysable__a_report_alone(settings: NodeSettings, database: Database, server: FhirStore) -> None:
    add(database, settings, refused(Reason.NO_SAGITTAL_T2))
    assert deliver(settings, database) == ["sent"]
    (report,) = server.resources.values()
    assert "no_sagittal_t2" in report["conclusion"]


@pytest.mark.parametrize("status", [400, 412, 422])
def test_refused__is_given_up_with_the_codes_of_the_server_and_not_with_its_words(
    settings: NodeSettings, database: Database, server: FhirStore, status: int
) -> None:
    issue = [{"severity": "error", "code": "invalid", "diagnostics": "DOE^JANE"}, {"code": "Bad Code!"}]
    server.says = lambda: (status, {"resourceType": "OperationOutcome", "issue": issue})
    add(database, settings)
    assert deliver(settings, database) == ["failed"]
    ((kind, detail),) = why(database)
    assert (kind, detail) == ("delivery_failed", f"status {status}: the server refuses the report (invalid)")


@pytest.mark.parametrize("status", [301, 401, 404, 409, 429, 500, 503])
def test_let_through_nothing__is_tried_again_with_an_alert(
    settings: NodeSettings, database: Database, server: FhirStore, status: int
) -> None:
    server.says = lambda: (status, b"DOE^JANE")
    add(database, settings)
    assert deliver(settings, database) == ["waiting"]
    ((kind, detail),) = why(database)
    assert kind == "destination_down"
    assert f"(status {status})" in detail or f"status {status}" in detail
    assert "DOE" not in detail
    server.says = lambda: None
    assert deliver(settings, database) == ["sent"]
    assert why(database) == []


@pytest.mark.parametrize("body", [b"", b"<html>", {"entry": "x"}, {"entry": [3]}, {"entry": [{"response": 1}]}])
def test_an_answer_that_says_nothing__must_be_proven(
    node_settings: NodeSettings, database: Database, server: FhirStore, body: Any
) -> None:
    settings = settings_for(node_settings, server, read_back=False)
    server.says = lambda: (200, body)
    add(database, settings)
    assert deliver(settings, database) == ["sent"]
    assert [row.proof for row in rows(database)] == ["wanted"]


def test_findings_that_cannot_be_read__are_given_up_with_an_alert(
    settings: NodeSettings, database: Database, server: FhirStore
) -> None:
    add_result(database, settings, STUDY, ["records"], FORMS)
    assert deliver(settings, database) == ["failed"]
    assert why(database) == [("delivery_failed", "the report cannot be written as FHIR (KeyError)")]
    assert server.bundles == []


@pytest.mark.parametrize("said", [(200, b"[]"), (200, {"resourceType": "Patient"}), (500, b""), (200, b"[" * 100_000)])
def test_proof__an_answer_that_cannot_be_read_proves_nothing(
    settings: NodeSettings, database: Database, server: FhirStore, said: tuple[int, Any]
) -> None:
    add(database, settings)
    deliver(settings, database)
    server.finds = lambda: said
    assert prove(settings, database) == ["wanted"]


def test_check__asks_for_the_version_and_for_nobody(
    node_settings: NodeSettings, server: FhirStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    settings = settings_for(node_settings, server, token_file=tmp_path / "token")
    server.token = f"Bearer {TOKEN}"
    assert check_partners(settings)
    assert {login for _, _, login in server.asked} == {f"Bearer {TOKEN}"}
    server.version = "5.0.0"
    assert not check_partners(settings)
    server.version, server.token = "4.0.1", "Bearer other"
    assert not check_partners(settings)
    out, err = capsys.readouterr()
    assert out == "ok: destination records answers\n"
    assert "it is no FHIR R4 server" in err
    assert "refuses the node's login or rights (status 401)" in err
    assert TOKEN not in err
