from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from dicom_node.alerts.record import close_alert, open_alerts, raise_alert, try_to_close, try_to_raise
from dicom_node.database.connection import Database
from dicom_node.database.words import AlertKind
from dicom_node.system.log import configure_logging

pytestmark = pytest.mark.both_databases


def test_raise__from_many_at_once_is_one_alert_with_a_count(database: Database) -> None:
    def alert(number: int) -> None:
        with database.write() as session:
            raise_alert(session, "refused", "10.0.0.1", str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(alert, range(40)))
    with database.read() as session:
        (found,) = open_alerts(session)
    assert found.count == 40


def test_close__and_open_again(database: Database) -> None:
    for _ in range(2):
        with database.write() as session:
            raise_alert(session, "disk_reserve", "/data", "full")
            close_alert(session, "disk_reserve", "/data")
            close_alert(session, "disk_reserve", "/data")
    with database.read() as session:
        assert not open_alerts(session)


def test_try__raises_and_closes_in_transactions_of_its_own(database: Database) -> None:
    try_to_raise(database, AlertKind.WEB_UNAVAILABLE, "127.0.0.1:8080", "in use")
    with database.read() as session:
        assert [(alert.kind, alert.detail) for alert in open_alerts(session)] == [("web_unavailable", "in use")]
    try_to_close(database, AlertKind.WEB_UNAVAILABLE, "127.0.0.1:8080")
    with database.read() as session:
        assert not open_alerts(session)


def test_try__goes_on_where_the_database_cannot_be_written(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE notices")
        connection.exec_driver_sql("DROP TABLE alerts")
    stream = io.StringIO()
    configure_logging(stream=stream)
    try_to_raise(database, AlertKind.REFUSED, "10.0.0.1", "DOE^JANE")
    try_to_close(database, AlertKind.REFUSED, "10.0.0.1")
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events.count("alert_failed") == 2
