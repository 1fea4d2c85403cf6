"""Who gets an association, and who is told of the others."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from dicom_node.alerts.record import open_alerts
from dicom_node.audit.log import AuditLog
from dicom_node.audit.transfers import Receiving
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.admission import Admission
from dicom_node.receiving.peers import Peers
from dicom_node.receiving.refusals import Refusal
from dicom_node.receiving.server import Caller
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now

GOOD = Caller("ROUTER", "SPINEONE", "10.0.0.1")


@pytest.fixture
def settings(node_settings: NodeSettings) -> NodeSettings:
    peers = [{"ae_title": "ROUTER", "addresses": ["10.0.0.0/8"], "max_associations": 3}]
    return NodeSettings(**{**node_settings.model_dump(), "peers": peers})


@pytest.fixture
def admission(settings: NodeSettings, database: Database) -> Admission:
    store = InstanceStore.of(settings, database)
    return Admission(settings, database, store, Peers(settings), Receiving(AuditLog(settings), database))


def audit_lines(settings: NodeSettings) -> list[str]:
    return [
        line for path in settings.data_dir.glob("audit/audit-*.log") for line in path.read_text().splitlines() if line
    ]


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        (GOOD, None),
        (Caller("ROUTER", "OTHER", "10.0.0.1"), Refusal.WRONG_CALLED_AE),
        (Caller("STRANGER", "SPINEONE", "10.0.0.1"), Refusal.UNKNOWN_CALLING_AE),
        (Caller("ROUTER", "SPINEONE", "192.168.0.1"), Refusal.ADDRESS),
    ],
)
def test_judge__by_titles_and_address(admission: Admission, caller: Caller, expected: Refusal | None) -> None:
    assert admission.judge(caller) is expected


def test_judge__under_the_disk_reserve(admission: Admission, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InstanceStore, "has_room", lambda self, size=0: False)
    assert admission.judge(GOOD) is Refusal.DISK_RESERVE


def test_most_associations__of_the_peer_or_of_all(admission: Admission, settings: NodeSettings) -> None:
    assert admission.most_associations("ROUTER") == 3
    assert admission.most_associations("ARCHIVE") == settings.listener.max_associations


@pytest.mark.parametrize("refusal", Refusal)
def test_refused__alert_and_audit_message(
    admission: Admission, settings: NodeSettings, database: Database, refusal: Refusal
) -> None:
    admission.refused(GOOD, refusal)
    admission.stop()
    with database.read() as session:
        alerts = {alert.kind: alert for alert in open_alerts(session)}
    # Under the reserve the documented alert about the disk is open too.
    assert alerts.keys() == {"refused", *(["disk_reserve"] if refusal is Refusal.DISK_RESERVE else [])}
    assert alerts["refused"].subject == f"10.0.0.1: {refusal.words}"
    assert alerts["refused"].detail == "calling AE ROUTER, called AE SPINEONE"
    assert len(audit_lines(settings)) == refusal.is_about_caller


def age_alerts(database: Database, minutes: float) -> None:
    with database.write() as session:
        session.execute(update(Alert).values(last_at=utc_now() - timedelta(minutes=minutes)))


@pytest.mark.parametrize(
    ("admitted", "minutes_ago", "is_over"),
    [
        (Caller("ROUTER", "SPINEONE", "10.0.0.1"), 11, True),
        (Caller("ROUTER", "SPINEONE", "10.0.0.1"), 9, False),
        (Caller("ROUTER", "SPINEONE", "10.0.0.2"), 11, False),
        (Caller("ARCHIVE", "SPINEONE", "10.0.0.1"), 11, False),
    ],
)
def test_admitted__the_alert_about_its_refusal_is_over(
    admission: Admission, database: Database, admitted: Caller, minutes_ago: float, is_over: bool
) -> None:
    admission.refused(Caller("ROUTER", "OTHER", "10.0.0.1"), Refusal.WRONG_CALLED_AE)
    admission.stop()
    age_alerts(database, minutes_ago)
    admission.admitted(admitted)
    admission.close_alerts()
    with database.read() as session:
        assert (not open_alerts(session)) is is_over


def test_admitted__and_refused_again(admission: Admission, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    admission.admitted(GOOD)
    admission.refused(GOOD, Refusal.TOO_MANY)
    later = utc_now() + timedelta(hours=1)
    monkeypatch.setattr("dicom_node.receiving.admission.utc_now", lambda: later)
    admission.close_alerts()
    with database.read() as session:
        (alert,) = open_alerts(session)
    assert alert.count == 1
    admission.admitted(GOOD)
    admission.close_alerts()
    with database.read() as session:
        assert not open_alerts(session)


def test_refused__while_the_database_is_gone_none_is_lost(admission: Admission, database: Database) -> None:
    database.close()
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE alerts RENAME TO gone")
    admission.refused(GOOD, Refusal.ADDRESS)
    admission.refused(GOOD, Refusal.ADDRESS)
    admission.stop()
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO alerts")
    admission.refused(GOOD, Refusal.ADDRESS)
    admission.stop()
    with database.read() as session:
        assert [alert.count for alert in open_alerts(session)] == [3]


def test_caller__of_a_request() -> None:
    request = bytes(10) + b"SPINEONE".ljust(16) + b"ROUT\nER".ljust(16) + bytes(32)
    assert Caller.of(request, "10.0.0.1") == Caller("ROUT?ER", "SPINEONE", "10.0.0.1")
