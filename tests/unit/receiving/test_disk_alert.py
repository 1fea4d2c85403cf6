"""The listener's look at the disk: the alert is open as long as the reserve is touched."""

from __future__ import annotations

import pytest

from dicom_node.alerts.record import open_alerts, raise_alert
from dicom_node.database.connection import Database
from dicom_node.database.words import AlertKind
from dicom_node.images.store import InstanceStore
from dicom_node.receiving import listener
from dicom_node.settings.node import NodeSettings


def alerts(database: Database) -> list[tuple[str, int]]:
    with database.read() as session:
        return [(alert.kind, alert.count) for alert in open_alerts(session)]


def test_look__opens_the_alert_before_anybody_is_refused(
    node_settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = InstanceStore(database, node_settings.data_dir)
    listener._look_at_disk(node_settings, database, store)
    assert alerts(database) == []
    with monkeypatch.context() as patch:
        patch.setattr(InstanceStore, "why_no_room", lambda self: "no room")
        for _ in range(3):
            listener._look_at_disk(node_settings, database, store)
        assert alerts(database) == [("disk_reserve", 1)]
    listener._look_at_disk(node_settings, database, store)
    assert alerts(database) == []


def test_look__closes_the_alert_however_many_others_are_open(node_settings: NodeSettings, database: Database) -> None:
    store = InstanceStore(database, node_settings.data_dir)
    store.tell_of_no_room()
    with database.write() as session:
        for number in range(150):
            raise_alert(session, AlertKind.JOB_FAILED, f"1.2.{number}", "broken")
    listener._look_at_disk(node_settings, database, store)
    with database.read() as session:
        assert "disk_reserve" not in {alert.kind for alert in open_alerts(session, limit=1000)}
