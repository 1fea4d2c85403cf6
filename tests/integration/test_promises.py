"""Senders ask us to keep their images: we promise only what is in the index and, bit for bit, on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel
from sqlalchemy import update

from dicom_node.alerts.record import open_alerts, raise_alert
from dicom_node.commitment.answers import Answers
from dicom_node.commitment.messages import (
    REQUEST,
    SOP_CLASS,
    SOP_INSTANCE,
    CommitmentAnswer,
    CommitmentRequest,
    Reference,
    encode_request,
    read_answer,
)
from dicom_node.database.connection import Database
from dicom_node.database.tables import PromiseRow
from dicom_node.database.words import AlertKind
from dicom_node.images.records import current_instance
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.listener import StorageListener
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import incoming, mr_image
from tests.fakes.scu import free_port
from tests.integration.test_delivery import until

pytestmark = pytest.mark.both_databases
STORED = [Reference(MRImageStorage, str(mr_image(n).SOPInstanceUID)) for n in (1, 2, 3)]


class Requester:
    """A sender that asks for commitment, and listens for the answer on a port of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.answers: list[CommitmentAnswer] = []
        self.associations = 0
        self.status = 0x0000

    def on_report(self, event: Any) -> tuple[int, None]:
        self.answers.append(read_answer(event.request.EventInformation.getvalue(), event.context.transfer_syntax))
        return self.status, None

    def on_established(self, event: Any) -> None:
        self.associations += 1

    @contextmanager
    def listening(self) -> Iterator[None]:
        ae = AE("ROUTER")
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, self.on_report), (evt.EVT_ESTABLISHED, self.on_established)]
        server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        assert server is not None
        try:
            yield
        finally:
            server.shutdown()

    def ask(
        self,
        port: int,
        dataset: Dataset,
        *,
        calling: str = "ROUTER",
        hold: Callable[[], bool] | None = None,
        action: int = REQUEST,
    ) -> int:
        """The status of the N-ACTION; the association stays open until ``hold`` is true."""
        ae = AE(calling)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5
        ae.add_requested_context(StorageCommitmentPushModel)
        opened = ae.associate(
            "127.0.0.1", port, ae_title="SPINEONE", evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.on_report)]
        )
        assert opened.is_established
        status, _ = opened.send_n_action(dataset, action, SOP_CLASS, SOP_INSTANCE)
        if hold is not None:
            until(hold)
            threading.Event().wait(0.1)
        opened.release()
        return int(status.Status)


@pytest.fixture
def requester() -> Requester:
    return Requester()


@pytest.fixture
def settings(node_settings: NodeSettings, requester: Requester) -> NodeSettings:
    values = node_settings.model_dump()
    values["listener"] |= {"port": free_port()}
    peers = [
        {"ae_title": "ROUTER", "addresses": ["127.0.0.1"], "host": "127.0.0.1", "port": requester.port},
        {"ae_title": "SCANNER", "addresses": ["127.0.0.1"]},
    ]
    delivery = {"timeout_s": 2, "retry_first_s": 0.01, "retry_max_s": 0.02}
    destinations = [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}]
    return NodeSettings(**{**values, "peers": peers, "delivery": delivery, "destinations": destinations})


@pytest.fixture
def store(settings: NodeSettings, database: Database) -> InstanceStore:
    kept = InstanceStore(database, settings.data_dir)
    for number in (1, 2, 3):
        assert kept.receive(incoming(mr_image(number))) == 0
    return kept


@pytest.fixture
def port(settings: NodeSettings, database: Database, store: InstanceStore) -> Iterator[int]:
    listener = StorageListener(settings, database, store)
    listener.start()
    yield listener.port
    listener.stop()


def request(*references: Reference, transaction: str = "") -> Dataset:
    return encode_request(CommitmentRequest(transaction or generate_uid(), references or tuple(STORED)))


def kinds(database: Database) -> list[str]:
    with database.read() as session:
        return [alert.kind for alert in open_alerts(session)]


def test_request__is_answered_at_the_address_of_the_sender(
    settings: NodeSettings, database: Database, port: int, requester: Requester
) -> None:
    answers = Answers(settings, database)
    asked = request()
    assert requester.ask(port, asked) == 0
    # It is not there yet: nothing is lost, it is tried again.
    answers.answer_due()
    assert requester.answers == []
    with requester.listening():
        threading.Event().wait(0.05)
        answers.answer_due()
        answers.answer_due()
    assert requester.answers == [CommitmentAnswer(asked.TransactionUID, tuple(STORED))]
    assert requester.associations == 1


def test_request__without_an_address_is_answered_on_its_association(
    settings: NodeSettings, database: Database, port: int, requester: Requester
) -> None:
    asked = request()
    status = requester.ask(port, asked, calling="SCANNER", hold=lambda: bool(requester.answers))
    assert status == 0
    assert requester.answers == [CommitmentAnswer(asked.TransactionUID, tuple(STORED))]
    Answers(settings, database).answer_due()
    assert kinds(database) == []


def test_request__a_sender_that_neither_waits_nor_has_an_address_is_reported(
    settings: NodeSettings, database: Database, port: int, requester: Requester
) -> None:
    assert requester.ask(port, request(), calling="SCANNER") == 0
    threading.Event().wait(0.5)
    with database.write() as session:
        # The minute in which the answer may go out on the association is over.
        session.execute(update(PromiseRow).values(next_attempt_at=utc_now()))
    Answers(settings, database).answer_due()
    assert requester.answers == []
    assert kinds(database) == ["commitment_unanswered"]


def test_request__only_what_is_kept_bit_by_bit_is_promised(
    settings: NodeSettings, database: Database, port: int, requester: Requester
) -> None:
    changed, missing, good = STORED
    with database.read() as session:
        rows = [current_instance(session, r.sop_instance_uid) for r in (changed, missing)]
    first, second = (settings.data_dir / row.path for row in rows if row)
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(data)
    second.unlink()
    unknown = Reference(MRImageStorage, "1.2.3.4")
    other_class = Reference(CTImageStorage, good.sop_instance_uid)
    with requester.listening():
        assert requester.ask(port, request(*STORED, unknown, other_class)) == 0
        Answers(settings, database).answer_due()
    (answer,) = requester.answers
    assert answer.kept == (good,)
    assert dict(answer.failed) == {changed: 0x0110, missing: 0x0110, unknown: 0x0112, other_class: 0x0119}
    assert kinds(database) == ["missing_file", "missing_file"]


def test_request__survives_a_crash(
    settings: NodeSettings, database: Database, port: int, requester: Requester, store: InstanceStore
) -> None:
    """A request is recorded before it is acknowledged; the next process that starts answers it."""
    assert requester.ask(port, request()) == 0
    with requester.listening():
        Answers(settings, Database(str(database.engine.url.render_as_string(hide_password=False)))).answer_due()
    assert len(requester.answers[0].kept) == 3


def test_request__the_same_again_is_answered_once_and_another_under_its_uid_is_refused(
    settings: NodeSettings, database: Database, port: int, requester: Requester
) -> None:
    for asked in (request(transaction="1.2.3"), request(transaction="1.2.3"), request(STORED[0], transaction="1.2.3")):
        assert requester.ask(port, asked) == 0
    with requester.listening():
        Answers(settings, database).answer_due()
    assert [(len(a.kept), [reason for _, reason in a.failed]) for a in requester.answers] == [(3, []), (0, [0x0131])]


def test_answer__that_is_refused_is_given_again_and_after_a_day_no_more(
    settings: NodeSettings, database: Database, port: int, requester: Requester, monkeypatch: pytest.MonkeyPatch
) -> None:
    requester.status = 0x0110
    answers = Answers(settings, database)
    with requester.listening():
        assert requester.ask(port, request()) == 0
        for _ in range(3):
            answers.answer_due()
            threading.Event().wait(0.03)
        assert len(requester.answers) == 3
        assert kinds(database) == []
        later = utc_now().replace(year=utc_now().year + 1)
        monkeypatch.setattr("dicom_node.commitment.promises.utc_now", lambda: later)
        answers.answer_due()
        answers.answer_due()
    assert len(requester.answers) == 4
    assert kinds(database) == ["commitment_unanswered"]


def test_answer__closes_the_alert_about_an_answer_that_was_given_up(
    settings: NodeSettings, database: Database, port: int, requester: Requester
) -> None:
    with database.write() as session:
        for sender in ("ROUTER", "ANOTHER"):
            raise_alert(session, AlertKind.COMMITMENT_UNANSWERED, sender, "could not be reached for a day")
    with requester.listening():
        assert requester.ask(port, request()) == 0
        Answers(settings, database).answer_due()
    assert len(requester.answers) == 1
    with database.read() as session:
        assert [alert.subject for alert in open_alerts(session)] == ["ANOTHER"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda d: d.__delattr__("TransactionUID"), 0x0114),
        (lambda d: d.__delattr__("ReferencedSOPSequence"), 0x0114),
        (lambda d: d.ReferencedSOPSequence[0].__delattr__("ReferencedSOPInstanceUID"), 0x0114),
        (lambda d: d.ReferencedSOPSequence[0].__setattr__("ReferencedSOPInstanceUID", "../../x"), 0x0115),
    ],
)
def test_request__that_is_none_is_refused(
    database: Database, port: int, requester: Requester, change: Callable[[Dataset], None], status: int
) -> None:
    asked = request()
    change(asked)
    assert requester.ask(port, asked) == status


def test_request__of_another_kind_or_of_a_stranger_is_refused(port: int, requester: Requester) -> None:
    assert requester.ask(port, request(), action=2) == 0x0123
    # A destination may report, not ask.
    assert requester.ask(port, request(), calling="PACS") == 0x0124
