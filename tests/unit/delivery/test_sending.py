"""A sending keeps its record whatever the channel does; every kind of destination has a channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import pytest
from pydicom.uid import Comprehensive3DSRStorage
from sqlalchemy import select

from dicom_node.audit.log import AuditLog
from dicom_node.commitment.finders import FINDERS
from dicom_node.database.connection import Database
from dicom_node.database.tables import OutboxRow
from dicom_node.delivery import outbox
from dicom_node.delivery.channel import NO_ANSWER, Answer, DeliveryChannel, Offer, Outcome, Progress
from dicom_node.delivery.channels import CHANNELS, channel_for
from dicom_node.delivery.sending import Sending
from dicom_node.delivery.store_scu import Sender, classify
from dicom_node.dicom.sop_classes import class_name
from dicom_node.errors import DeliveryError
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import Destination
from dicom_node.settings.text import sections_of
from dicom_node.settings.types import Section
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import STUDY
from tests.fakes.pacs import SC, SR, SR_2D
from tests.fakes.results import add_result

PACS = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
STORED = Answer(Outcome.SENT, 0, "stored")


class ScriptedChannel:
    """Does what a test says in place of sending."""

    def __init__(self, act: Callable[[Sequence[Offer], Progress], None]) -> None:
        self._act = act

    def send(self, offers: Sequence[Offer], progress: Progress) -> None:
        self._act(offers, progress)


@pytest.fixture
def settings(node_settings: NodeSettings) -> NodeSettings:
    return NodeSettings(**{**node_settings.model_dump(), "destinations": [PACS.model_dump()]})


@pytest.fixture
def run(database: Database, settings: NodeSettings) -> Callable[..., list[OutboxRow]]:
    """Send a report in two forms and an overlay on a channel; the outbox after it."""
    add_result(database, settings, STUDY, ["pacs"], (("report", SR), ("overlay", SC), ("report_2d", SR_2D)))

    def send(act: Callable[[Sequence[Offer], Progress], None]) -> list[OutboxRow]:
        with database.read() as session:
            (group,) = outbox.due(session, "pacs", now=utc_now())
        Sending(settings, database, AuditLog(settings), PACS, group).run(ScriptedChannel(act))
        with database.read() as session:
            return list(session.scalars(select(OutboxRow).order_by(OutboxRow.id)))

    return send


def test_sending__offers_both_forms_the_preferred_one_first(run: Callable[..., list[OutboxRow]]) -> None:
    seen: list[Sequence[Offer]] = []
    run(lambda offers, progress: seen.append(offers))
    ((report, overlay),) = seen
    assert [form.parcel.sop_class_uid for form in report.forms] == [SR, SR_2D]
    assert [form.parcel.sop_class_uid for form in overlay.forms] == [SC]
    assert report.preferred is report.forms[0]


def test_sending__what_was_not_answered_waits(run: Callable[..., list[OutboxRow]]) -> None:
    def act(offers: Sequence[Offer], progress: Progress) -> None:
        progress.begin()
        progress.answer(offers[0].preferred, STORED)

    first, second = run(act)
    assert (first.state, first.attempts) == ("sent", 1)
    assert (second.state, second.attempts, second.last_message) == ("waiting", 1, NO_ANSWER.message)


def test_sending__a_destination_that_is_not_reached_says_why(run: Callable[..., list[OutboxRow]]) -> None:
    def act(offers: Sequence[Offer], progress: Progress) -> None:
        raise DeliveryError("no way there")

    assert {(row.state, row.last_message) for row in run(act)} == {("waiting", "no way there")}


def test_sending__the_choice_of_a_form_is_on_record_before_its_answer(
    run: Callable[..., list[OutboxRow]], database: Database
) -> None:
    def act(offers: Sequence[Offer], progress: Progress) -> None:
        other = offers[0].forms[1]
        progress.choose(other)
        with database.read() as session:
            row = session.get_one(OutboxRow, other.parcel.row_id)
            assert (row.is_bound, row.result_file_id) == (True, other.parcel.file_id)
        progress.answer(other, STORED)

    assert [row.state for row in run(act)] == ["sent", "waiting"]


@pytest.mark.parametrize(("status", "proof"), [(0x0000, "none"), (0x0111, "wanted")])
def test_sending__what_was_there_already_is_proven(
    run: Callable[..., list[OutboxRow]], status: int, proof: str
) -> None:
    def act(offers: Sequence[Offer], progress: Progress) -> None:
        for offer in offers:
            progress.answer(offer.preferred, classify(status))

    assert {(row.state, row.proof) for row in run(act)} == {("sent", proof)}


def test_channels__every_kind_of_destination_has_one(settings: NodeSettings, database: Database) -> None:
    kinds = {section.model_fields["kind"].annotation for section in destination_kinds()}
    assert set(CHANNELS) == set(FINDERS) == {get_args(kind)[0] for kind in kinds}
    channel: DeliveryChannel = channel_for(settings, PACS, database)
    assert isinstance(channel, Sender)


def destination_kinds() -> list[type[Section]]:
    return sections_of(NodeSettings.model_fields["destinations"].annotation)


def test_class_name__is_that_of_the_standard() -> None:
    assert class_name(Comprehensive3DSRStorage) == "Comprehensive 3D SR Storage"
    assert class_name("1.2.3") == "1.2.3"
