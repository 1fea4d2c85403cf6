"""What `status` says first: whether the node runs, since when, with which version and model."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicom_node.database.connection import Database
from dicom_node.database.tables import ProcessRow
from dicom_node.health.heartbeats import beating
from dicom_node.health.whole_node import in_words, whole_node
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from spineone_core.version import software_version
from tests.peers import wait_for

NOW = utc_now()


def with_processes(database: Database, *roles: str, silent_s: float = 1) -> None:
    with database.write() as session:
        for pid, role in enumerate(roles):
            begun, heard = NOW - timedelta(hours=3, minutes=12 + pid), NOW - timedelta(seconds=silent_s)
            model = "m 1 (abc)" if role == "worker" else None
            session.add(
                ProcessRow(role=role, host="h", pid=pid, started_at=begun, beat_at=heard, version="9.9", model=model)
            )


@pytest.mark.parametrize(
    ("roles", "silent_s", "words"),
    [
        ((), 1, f"STOPPED: no process of the node is at work; version {software_version()}, model default (no worker"),
        (("listener", "worker", "delivery"), 600, "STOPPED: no process"),
        (("listener", "worker", "delivery"), 1, "runs for 3 h 14 min; version 9.9, model m 1 (abc)"),
        (
            ("listener", "delivery"),
            1,
            "runs in part (there is no worker) for 3 h 13 min; version 9.9, model default (no",
        ),
    ],
)
def test_whole_node(
    database: Database, node_settings: NodeSettings, roles: tuple[str, ...], silent_s: float, words: str
) -> None:
    with_processes(database, *roles, silent_s=silent_s)
    with database.read() as session:
        assert in_words(whole_node(session, node_settings, NOW)).startswith(words)


def test_a_process__says_what_it_runs(database: Database, node_settings: NodeSettings) -> None:
    def model() -> str:
        with database.read() as session:
            return str(whole_node(session, node_settings, utc_now())["model"])

    with beating(database, "worker", model="m 2 (def)", every_s=0.05):
        wait_for(lambda: model() == "m 2 (def)", timeout_s=10, what="the first beat")
