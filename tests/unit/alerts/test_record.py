from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from dicom_node.alerts.record import close_alert, open_alerts, raise_alert
from dicom_node.database.connection import Database

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
