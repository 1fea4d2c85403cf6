"""Evidence: what an answer changes, in whatever order answers come."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from dicom_node.commitment import evidence
from dicom_node.database.connection import Database
from dicom_node.database.tables import OutboxRow
from dicom_node.delivery import outbox
from dicom_node.delivery.outbox import Parcel
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import STUDY
from tests.fakes.results import add_result

pytestmark = pytest.mark.both_databases


@pytest.fixture
def parcel(node_settings: NodeSettings, database: Database) -> Parcel:
    """An object that was sent and is to be proven."""
    add_result(database, node_settings, STUDY, ["pacs"], objects=(("report", "1.2.840.10008.5.1.4.1.1.88.33"),))
    with database.write() as session:
        ((sent,),) = outbox.due(session, "pacs", now=utc_now())
        outbox.mark_sent(session, sent, 0, "stored", wants_proof=True)
    return sent


def state_of(database: Database) -> tuple[str, str]:
    with database.read() as session:
        row = session.scalars(select(OutboxRow)).one()
        return row.state, row.proof


def test_question__that_was_answered_meanwhile_is_not_put_again(
    node_settings: NodeSettings, database: Database, parcel: Parcel
) -> None:
    with database.write() as session:
        evidence.found(session, parcel)
    with database.write() as session:
        evidence.not_answered(session, [parcel], "no answer", node_settings.delivery)
        evidence.not_found(session, parcel, node_settings.delivery)
        evidence.give_up(session, [parcel], "not looked for")
    assert state_of(database) == ("sent", "found")


def test_object__that_is_sent_again_meanwhile_gets_no_proof(
    node_settings: NodeSettings, database: Database, parcel: Parcel
) -> None:
    with database.write() as session:
        outbox.resend(session, STUDY)
    with database.write() as session:
        evidence.found(session, parcel)
        evidence.ask(session, [parcel], node_settings.delivery)
    assert state_of(database) == ("waiting", "none")


def test_question__that_is_not_answered_is_wanted_again(
    node_settings: NodeSettings, database: Database, parcel: Parcel
) -> None:
    with database.write() as session:
        evidence.ask(session, [parcel], node_settings.delivery)
    assert state_of(database) == ("sent", "asked")
    with database.write() as session:
        evidence.not_answered(session, [parcel], "no answer", node_settings.delivery)
    assert state_of(database) == ("sent", "wanted")
