"""The web process's pages, its metrics, and what it does when its port is taken."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from datetime import datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from dicom_node.alerts.record import open_alerts, raise_alert
from dicom_node.analysis import jobs
from dicom_node.database.connection import Database
from dicom_node.database.tables import Job, OutboxRow, ProcessRow, ResultFile, ResultRow, ShownPatient, StudyRow
from dicom_node.health import overview
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.web import server
from dicom_node.web.app import make_app
from tests.fakes.datasets import STUDY, incoming, mr_image
from tests.fakes.stops import ImpatientStop

FINDINGS = {
    "findings": [
        {"structure": "disc", "level": "L4-L5", "class": "degenerative", "decided": True, "pfirrmann": {"grade": 4}},
        {"structure": "disc", "level": "L5-S1", "class": "normal", "decided": False},
    ]
}


def settings_of(base: NodeSettings, **web: object) -> NodeSettings:
    destination = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    return NodeSettings.model_validate(
        {"data_dir": base.data_dir, "destinations": [destination], "retention": {"disk_reserve_gb": 0}, "web": web}
    )


def client_of(app: ASGIApp) -> TestClient:
    """A client that asks for the node by its address."""
    return TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)


@pytest.fixture
def client(node_settings: NodeSettings, database: Database) -> TestClient:
    return client_of(make_app(settings_of(node_settings), database))


def at_work(database: Database, *roles: str, at: datetime | None = None) -> None:
    at = at or utc_now()
    with database.write() as session:
        session.add_all(
            [ProcessRow(role=r, host="node", pid=n, started_at=at, beat_at=at) for n, r in enumerate(roles)]
        )


def analysed(database: Database, study: str = STUDY) -> None:
    """A study with a result that has one file waiting for its destination."""
    now = utc_now()
    with database.write() as session:
        session.add(
            StudyRow(study_uid=study, state="complete", generation=1, first_received_at=now, last_received_at=now)
        )
        session.flush()
        job = jobs.enqueue(session, study, 1, now=now - timedelta(seconds=9))
        claim = jobs.claim(session, "me", now=now)
        assert claim is not None
        result = ResultRow(
            study_uid=study,
            generation=1,
            input_hash="a",
            model_digest="b",
            settings_digest="c",
            status="analysed",
            findings=json.dumps(FINDINGS),
            created_at=now,
        )
        session.add(result)
        session.flush()
        file = ResultFile(result_id=result.id, role="report", path="p", sha256="s")
        session.add(file)
        session.flush()
        session.add(
            OutboxRow(
                result_file_id=file.id,
                study_uid=study,
                destination="pacs",
                state="waiting",
                attempts=0,
                next_attempt_at=now,
                created_at=now,
                last_message="",
            )
        )
        jobs.succeed(session, claim, result_id=result.id, input_hash="a", detail="analysed")
        assert job.id == claim.job_id


def metrics(client: TestClient) -> dict[tuple[str, ...], float]:
    """Value by name and labels; the text must be what Prometheus reads."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(s.name, *(v for _, v in sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def test_healthz__answers_without_database(client: TestClient, database: Database) -> None:
    database.close()
    assert client.get("/healthz").text == "ok\n"


def test_readyz__names_what_is_missing(client: TestClient, database: Database) -> None:
    at_work(database, "listener", "delivery")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    seen = answer.json()["checks"]
    assert seen["worker"] == {"ok": False, "detail": "not running"}
    assert seen["listener"]["ok"]
    assert seen["disk"]["ok"]


def test_readyz__is_good_when_all_are_at_work(client: TestClient, database: Database) -> None:
    at_work(database, "listener", "worker", "delivery")
    assert client.get("/readyz").json()["ready"] is True


def test_readyz__a_silent_worker_and_a_full_disk(node_settings: NodeSettings, database: Database) -> None:
    at_work(database, "worker", at=utc_now() - timedelta(seconds=100))
    full = node_settings.model_copy(
        update={"retention": node_settings.retention.model_copy(update={"disk_reserve_gb": 1e9})}
    )
    seen = client_of(make_app(full, database)).get("/readyz").json()["checks"]
    assert seen["worker"]["detail"] == "silent for 100 s"
    assert not seen["disk"]["ok"]


def test_readyz__a_lost_database_is_not_ready(
    client: TestClient, node_settings: NodeSettings, database: Database
) -> None:
    database.close()
    (node_settings.data_dir / "node.db").write_bytes(b"no database at all" * 100)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "does not answer" in answer.json()["checks"]["database"]["detail"]
    assert client.get("/").status_code == 503
    assert client.get("/metrics").status_code == 503


def test_metrics__count_what_is_in_the_database(
    client: TestClient, node_settings: NodeSettings, database: Database
) -> None:
    InstanceStore(database, node_settings.data_dir).receive(incoming(mr_image(study="1.2.5")))
    analysed(database)
    at_work(database, "listener")
    with database.write() as session:
        for _ in range(3):
            raise_alert(session, "refused", "10.0.0.1: wrong called AE title", "calling AE OLD")
    seen = metrics(client)
    assert seen["spineone_instances_received_total",] == 1
    assert seen["spineone_studies_receiving",] == 1
    assert seen["spineone_associations_refused_total", "wrong called AE title"] == 3
    assert seen["spineone_associations_refused_total", "disk reserve"] == 0
    assert seen["spineone_alerts_open", "refused"] == 1
    assert seen["spineone_jobs", "done"] == 1
    assert seen["spineone_results_total", "", "analysed"] == 1
    assert seen["spineone_deliveries", "pacs", "waiting"] == 1
    assert seen["spineone_deliveries_proven", "pacs"] == 0
    assert seen["spineone_stage_seconds", "0.5", "receiving"] >= 0
    assert seen["spineone_stage_seconds", "0.5", "queue"] == pytest.approx(9, abs=1)
    assert seen["spineone_stage_seconds", "1", "analysis"] < 5
    assert seen["spineone_model_degenerative_ratio", "L4-L5", "disc"] == 1
    assert seen["spineone_model_undecided_ratio", "L5-S1", "disc"] == 1
    assert seen["spineone_model_pfirrmann_ratio", "4", "L4-L5"] == 1
    assert seen["spineone_model_pfirrmann_ratio", "3", "L4-L5"] == 0
    assert seen["spineone_processes", "listener"] == 1
    assert seen["spineone_processes", "worker"] == 0
    assert seen["spineone_disk_free_bytes",] > 0


def test_metrics__of_gpus_only_where_there_are_some(client: TestClient, database: Database) -> None:
    at_work(database, "worker")
    assert not [name for name in metrics(client) if name[0].startswith("spineone_gpu")]


def test_metrics__one_series_for_each_gpu(node_settings: NodeSettings, database: Database) -> None:
    at_work(database, "worker", "worker", "listener")
    with database.write() as session:
        workers = update(ProcessRow).where(ProcessRow.role == "worker")
        session.execute(workers.values(gpu_device="cuda:1", gpu_free_bytes=6 * 10**10, gpu_total_bytes=8 * 10**10))
    client = client_of(make_app(settings_of(node_settings), database))
    seen = {name: value for name, value in metrics(client).items() if name[0].startswith("spineone_gpu")}
    assert seen == {
        ("spineone_gpu_memory_free_bytes", "cuda:1", "node"): 6e10,
        ("spineone_gpu_memory_total_bytes", "cuda:1", "node"): 8e10,
    }


def test_metrics_and_page__hold_no_patient_data_and_metrics_no_uid(
    client: TestClient, node_settings: NodeSettings, database: Database
) -> None:
    InstanceStore(database, node_settings.data_dir).receive(incoming(mr_image(study="1.2.840.99.5")))
    with database.write() as session:
        raise_alert(session, "job_failed", "1.2.840.99.5", "given up")
    text = client.get("/metrics").text
    page = client.get("/").text
    assert "SECRET" not in text + page
    assert not re.search(r"\d+\.\d+\.\d+\.\d+", text)
    assert "1.2.840.99.5" in page


def test_page__escapes_what_came_from_outside(client: TestClient, database: Database) -> None:
    with database.write() as session:
        raise_alert(session, "quarantine", "<script>alert(1)</script>", 'from "<b>AE</b>"')
    answer = client.get("/")
    assert "<script>" not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_page__shows_studies_destinations_and_health(client: TestClient, database: Database) -> None:
    analysed(database)
    page = client.get("/").text
    for text in (STUDY, "analysed", "pacs", "not running", "Research use only"):
        assert text in page


def test_page__shows_what_is_proven(node_settings: NodeSettings, database: Database) -> None:
    values = settings_of(node_settings).model_dump()
    values["destinations"] = [{**values["destinations"][0], "storage_commitment": True, "read_back": True}]
    analysed(database, "1.2.1")
    analysed(database, "1.2.2")
    with database.write() as session:
        sent = update(OutboxRow).values(state="sent")
        session.execute(sent.where(OutboxRow.study_uid == "1.2.1").values(proof="committed"))
        session.execute(sent.where(OutboxRow.study_uid == "1.2.2").values(proof="asked"))
        shown = overview.status(session, NodeSettings(**values))
    (destination,) = shown["destinations"]
    assert (destination["proven"], destination["to_prove"], destination["sent"]) == (1, 1, 2)
    assert destination["proof"] == "storage commitment, then read back"
    assert {study["study_uid"]: study["proven"] for study in shown["studies"]} == {"1.2.1": 1, "1.2.2": 0}
    page = client_of(make_app(NodeSettings(**values), database)).get("/").text
    assert "1 to prove" in page
    assert "storage commitment, then read back" in page


def test_status__counts_studies_by_what_became_of_them(node_settings: NodeSettings, database: Database) -> None:
    analysed(database, "1.2.1")
    now = utc_now()
    with database.write() as session:
        for number, state in enumerate(("receiving", "complete", "complete", "complete")):
            uid = f"1.2.7.{number}"
            session.add(StudyRow(study_uid=uid, state=state, generation=1, first_received_at=now, last_received_at=now))
            session.flush()
            if number:
                jobs.enqueue(session, uid, 1, now=now)
        session.execute(update(Job).where(Job.study_uid == "1.2.7.2").values(state="failed"))
        claim = jobs.claim(session, "me", now=now)
        assert claim is not None
        counts = overview.status(session, settings_of(node_settings))["studies_by_state"]
    assert counts == {
        "receiving": 1,
        "waiting": 1,
        "running": 1,
        "analysed": 1,
        "not_analysable": 0,
        "kept": 0,
        "failed": 1,
    }


def test_page__nothing_can_be_changed(client: TestClient) -> None:
    assert client.post("/").status_code == 405
    assert client.get("/jobs").status_code == 404


def test_run__a_taken_port_is_an_alert_until_it_is_free(node_settings: NodeSettings, database: Database) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        stop = ImpatientStop()
        runner = threading.Thread(target=server.run_web, args=(settings_of(node_settings, port=port), database, stop))
        runner.start()
        wait_for_alerts(database, ["web_unavailable"])
    try:
        wait_for_alerts(database, [])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        stop.set()
        runner.join(10)
    assert not runner.is_alive()


def wait_for_alerts(database: Database, kinds: list[str]) -> None:
    deadline = time.monotonic() + 10
    while True:
        with database.read() as session:
            seen = [alert.kind for alert in open_alerts(session)]
        if seen == kinds:
            return
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)


def test_page__says_whose_studies_they_are_only_where_asked_and_the_audit_log_says_who_looked(
    node_settings: NodeSettings, database: Database
) -> None:
    analysed(database)
    with database.write() as session:
        session.add(ShownPatient(study_uid=STUDY, patient_id="PID-7391", accession="ACC-5512"))
    closed = settings_of(node_settings)
    assert "PID-7391" not in client_of(make_app(closed, database)).get("/").text
    looked = client_of(make_app(NodeSettings(**{**closed.model_dump(), "shown": {"patient": True}}), database))
    for _ in range(3):
        page = looked.get("/").text
        assert ("PID-7391" in page, "ACC-5512" in page) == (True, True)
    assert "PID-7391" not in looked.get("/metrics").text
    lines = [x for path in (closed.data_dir / "audit").glob("*.log") for x in path.read_text().splitlines()]
    (line,) = [line for line in lines if "110103" in line]
    assert ("testclient" in line, STUDY in line, "PID-7391" in line) == (True, True, False)
