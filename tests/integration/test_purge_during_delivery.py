"""Retention deletes images while their results are on their way: only what every destination has is evidence."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from dicom_node.alerts.record import acknowledge, open_alerts, raise_alert
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert, OutboxRow, StudyRow
from dicom_node.database.words import AlertKind
from dicom_node.delivery.deliverer import Delivery
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.upkeep.retention import Retention
from tests.fakes.analyses import analyse_next
from tests.fakes.datasets import STUDY
from tests.fakes.pacs import FakePacs, running_pacs
from tests.fakes.scu import free_port
from tests.unit.upkeep.test_retention import receive


@pytest.fixture
def settings(node_settings: NodeSettings) -> NodeSettings:
    destination = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}
    retention = {"disk_reserve_gb": 0, "keep_days": 30, "evidence": "sent"}
    values = {**node_settings.model_dump(), "destinations": [destination], "retention": retention}
    return NodeSettings(**values)


@pytest.fixture
def old_study(database: Database, settings: NodeSettings) -> int:
    """An analysed study that is older than the images are kept; returns the number of its images."""
    receive(database, InstanceStore(database, settings.data_dir), *range(1, 6))
    analyse_next(database, settings)
    with database.write() as session:
        session.execute(update(StudyRow).values(last_received_at=utc_now() - timedelta(days=31)))
    return 5


def images(settings: NodeSettings) -> int:
    return len(list((settings.data_dir / "instances").rglob("*.dcm")))


def test_purge__during_delivery_waits_for_its_end(database: Database, settings: NodeSettings, old_study: int) -> None:
    first, go_on = threading.Event(), threading.Event()
    pacs, retention = FakePacs(), Retention(settings, database)

    def slowly(event: Any) -> int:
        first.set()
        assert go_on.wait(20)
        return 0

    pacs.answer = slowly
    with running_pacs(settings.destinations[0].port, pacs=pacs):
        delivery = threading.Thread(target=Delivery(settings, database).deliver_due, args=(settings.destinations[0],))
        delivery.start()
        assert first.wait(20)
        # Part of the results is on the wire, nothing is acknowledged.
        retention.purge_due()
        assert images(settings) == old_study
        assert retention.purge(STUDY).kept_because == "a result has not reached pacs"
        go_on.set()
        delivery.join(30)
    with database.read() as session:
        assert set(session.scalars(select(OutboxRow.state))) == {"sent"}
    assert len(pacs.uids) == len(set(pacs.uids)) > 0
    retention.purge_due()
    assert images(settings) == 0


def test_purge__in_turns_with_a_delivery_that_fails_deletes_only_after_it_succeeded(
    database: Database, settings: NodeSettings, old_study: int
) -> None:
    pacs, retention = FakePacs(), Retention(settings, database)
    over = threading.Event()

    def purge() -> None:
        while not over.wait(0.01):
            retention.purge_due()

    answers = iter([0xA700, 0xA700])
    pacs.answer = lambda event: next(answers, 0)
    kept: list[int] = []
    purging = threading.Thread(target=purge)
    purging.start()
    try:
        with running_pacs(settings.destinations[0].port, pacs=pacs):
            for _ in range(3):
                with database.write() as session:
                    session.execute(update(OutboxRow).values(next_attempt_at=utc_now()))
                Delivery(settings, database).deliver_due(settings.destinations[0])
                with database.read() as session:
                    if "waiting" in set(session.scalars(select(OutboxRow.state))):
                        kept.append(images(settings))
    finally:
        over.set()
        purging.join()
    retention.purge_due()
    assert kept
    assert set(kept) == {old_study}
    assert images(settings) == 0


def test_purge__goes_by_proof_and_never_by_what_was_acknowledged(
    database: Database, settings: NodeSettings, old_study: int
) -> None:
    retention = Retention(settings, database)
    with database.write() as session:
        session.execute(update(OutboxRow).values(state="failed"))
        raise_alert(session, AlertKind.DELIVERY_FAILED, "pacs", "refused for good")
        raise_alert(session, AlertKind.NOT_KEPT, "pacs", "is not there")
        numbers = [alert.id for alert in session.scalars(select(Alert))]
        assert all(acknowledge(session, number) for number in numbers)
    retention.purge_due()
    assert retention.purge(STUDY).kept_because == "a result has not reached pacs"
    assert images(settings) == old_study
    with database.read() as session:
        assert not open_alerts(session)
