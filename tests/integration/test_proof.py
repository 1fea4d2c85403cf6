"""Proof that destinations keep what they acknowledged: storage commitment in every order of answers, and C-FIND."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select, update

from dicom_node.commitment.messages import CommitmentRequest
from dicom_node.commitment.prover import Prover
from dicom_node.database.connection import Database
from dicom_node.database.tables import CommitmentRow, OutboxRow
from dicom_node.delivery import outbox
from dicom_node.delivery.deliverer import Delivery
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.listener import StorageListener
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from tests.fakes.committing_pacs import CommittingPacs, running_committing_pacs
from tests.fakes.datasets import STUDY, mr_image
from tests.fakes.results import add_result
from tests.fakes.scu import association, free_port
from tests.integration.test_delivery import kinds_of_alerts, rows, until

pytestmark = pytest.mark.both_databases


@pytest.fixture
def settings(node_settings: NodeSettings) -> NodeSettings:
    return settings_of(node_settings, storage_commitment=True)


def settings_of(node_settings: NodeSettings, **destination: object) -> NodeSettings:
    values = node_settings.model_dump()
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port(), **destination}
    delivery = {"timeout_s": 2, "retry_first_s": 0.01, "retry_max_s": 0.02, "commitment_timeout_s": 0.01}
    values["listener"] |= {"port": free_port()}
    # Peers are set, so that the destination is let in as a destination alone.
    peers = [{"ae_title": "ROUTER", "addresses": ["127.0.0.1"]}]
    return NodeSettings(**{**values, "destinations": [pacs], "delivery": delivery, "peers": peers})


@pytest.fixture
def listener(settings: NodeSettings, database: Database) -> Iterator[StorageListener]:
    running = StorageListener(settings, database, InstanceStore(database, settings.data_dir))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def pacs(settings: NodeSettings) -> Iterator[CommittingPacs]:
    with running_committing_pacs(settings.destinations[0].port, listener_port=settings.listener.port) as running:
        yield running


@pytest.fixture
def result(settings: NodeSettings, database: Database) -> list[Dataset]:
    return add_result(database, settings, STUDY, ["pacs"])


def deliver(settings: NodeSettings, database: Database) -> None:
    Delivery(settings, database).deliver_due(settings.destinations[0])


def prove(settings: NodeSettings, database: Database) -> None:
    """Ask, whatever pause there would be."""
    with database.write() as session:
        session.execute(update(OutboxRow).where(OutboxRow.proof_at.is_not(None)).values(proof_at=utc_now()))
        session.execute(update(OutboxRow).values(next_attempt_at=utc_now()))
    Prover(settings, database).prove_due(settings.destinations[0])


def proofs(database: Database) -> list[str]:
    return [row.proof for row in rows(database)]


@pytest.mark.parametrize("order", ["before", "after", "new"])
def test_commitment__is_taken_whenever_and_wherever_it_comes(
    settings: NodeSettings,
    database: Database,
    result: list[Dataset],
    pacs: CommittingPacs,
    listener: StorageListener,
    order: str,
) -> None:
    pacs.order = order
    deliver(settings, database)
    assert proofs(database) == ["wanted", "wanted"]
    prove(settings, database)
    until(lambda: proofs(database) == ["committed", "committed"])
    assert pacs.last_report == 0
    assert {r.sop_instance_uid for r in pacs.requests[0].references} == {str(d.SOPInstanceUID) for d in result}
    assert kinds_of_alerts(database, settings) == []
    prove(settings, database)
    assert len(pacs.requests) == 1


def test_commitment__never_answered_is_asked_again_under_another_transaction(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: CommittingPacs, listener: StorageListener
) -> None:
    pacs.order = "never"
    deliver(settings, database)
    for _ in range(4):
        prove(settings, database)
    assert len({request.transaction_uid for request in pacs.requests}) == 4
    assert proofs(database) == ["asked", "asked"]
    assert kinds_of_alerts(database, settings) == ["not_proven"]
    assert len(pacs.stored) == 2
    # An answer to the first request, after all this, is evidence too.
    pacs.report_anew(pacs.requests[0])
    assert pacs.last_report == 0
    assert proofs(database) == ["committed", "committed"]
    assert kinds_of_alerts(database, settings) == []


def test_commitment__what_is_not_kept_is_sent_again(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: CommittingPacs
) -> None:
    lost = str(result[1].SOPInstanceUID)
    pacs.reasons = {lost: 0x0112}
    deliver(settings, database)
    prove(settings, database)
    assert [(row.state, row.proof) for row in rows(database)] == [("sent", "committed"), ("waiting", "none")]
    assert kinds_of_alerts(database, settings) == ["not_kept"]
    pacs.reasons = {}
    time.sleep(0.02)
    deliver(settings, database)
    assert pacs.uids.count(lost) == 2
    prove(settings, database)
    assert proofs(database) == ["committed", "committed"]
    assert kinds_of_alerts(database, settings) == []


def test_commitment__what_is_never_kept_is_given_up_with_an_alert(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: CommittingPacs
) -> None:
    pacs.reasons = {str(result[1].SOPInstanceUID): 0x0110}
    for _ in range(6):
        deliver(settings, database)
        prove(settings, database)
    assert [row.state for row in rows(database)] == ["sent", "failed"]
    assert "0x0110" in rows(database)[1].last_message
    assert kinds_of_alerts(database, settings) == ["delivery_failed"]
    assert len(pacs.stored) == 1 + 4
    pacs.reasons = {}
    with database.write() as session:
        outbox.resend(session, STUDY)
    deliver(settings, database)
    prove(settings, database)
    assert proofs(database) == ["committed", "committed"]
    assert kinds_of_alerts(database, settings) == []


@pytest.mark.parametrize(
    ("reason", "state"), [(0x0122, "failed"), (0x0119, "failed"), (0x0213, "sent"), (0x0131, "sent")]
)
def test_commitment__the_reason_decides(
    settings: NodeSettings,
    database: Database,
    result: list[Dataset],
    pacs: CommittingPacs,
    reason: int,
    state: str,
) -> None:
    pacs.reasons = {str(result[1].SOPInstanceUID): reason}
    deliver(settings, database)
    prove(settings, database)
    assert [row.state for row in rows(database)] == ["sent", state]
    assert len(pacs.stored) == 2


def test_commitment__of_an_unknown_transaction_is_ignored(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: CommittingPacs, listener: StorageListener
) -> None:
    pacs.order = "never"
    deliver(settings, database)
    prove(settings, database)
    pacs.report_anew(CommitmentRequest("1.2.3.4", pacs.requests[0].references))
    assert pacs.last_report == 0
    assert proofs(database) == ["asked", "asked"]


def test_commitment__of_somebody_else_is_ignored(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: CommittingPacs, listener: StorageListener
) -> None:
    """A sender that learnt the transaction UID cannot speak for the destination."""
    pacs.order = "never"
    deliver(settings, database)
    prove(settings, database)
    pacs.report_anew(pacs.requests[0], ae_title="ROUTER")
    assert proofs(database) == ["asked", "asked"]
    with pytest.raises(AssertionError):
        pacs.report_anew(pacs.requests[0], ae_title="STRANGER")


def test_commitment__a_destination_may_report_but_not_send(
    settings: NodeSettings, listener: StorageListener, database: Database
) -> None:
    with association(listener.port, calling="PACS") as opened:
        assert opened.is_established
        assert opened.send_c_store(mr_image()).Status == 0x0124


@pytest.mark.parametrize("refusal", [0x0110, 0x0124, 0x0213])
def test_commitment__a_refused_request_is_asked_again(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: CommittingPacs, refusal: int
) -> None:
    pacs.refuse_request = refusal
    deliver(settings, database)
    prove(settings, database)
    assert proofs(database) == ["wanted", "wanted"]
    pacs.refuse_request = 0
    prove(settings, database)
    assert proofs(database) == ["committed", "committed"]
    with database.read() as session:
        answered = [row.answered_at is not None for row in session.scalars(select(CommitmentRow).order_by("id"))]
    assert answered == [False, True]


def test_commitment__of_a_pacs_that_is_down_is_asked_later(
    settings: NodeSettings, database: Database, result: list[Dataset]
) -> None:
    port = settings.destinations[0].port
    with running_committing_pacs(port) as pacs:
        deliver(settings, database)
    prove(settings, database)
    assert proofs(database) == ["wanted", "wanted"]
    with running_committing_pacs(port) as again:
        again.stored = pacs.stored
        prove(settings, database)
    assert proofs(database) == ["committed", "committed"]


# ---------------------------------------------------------------- C-FIND


def test_read_back__finds_what_was_sent(node_settings: NodeSettings, database: Database) -> None:
    settings = settings_of(node_settings, read_back=True)
    add_result(database, settings, STUDY, ["pacs"])
    with running_committing_pacs(settings.destinations[0].port, commits=False) as pacs:
        deliver(settings, database)
        prove(settings, database)
    assert proofs(database) == ["found", "found"]
    assert {(q.StudyInstanceUID, q.QueryRetrieveLevel) for q in pacs.queries} == {(STUDY, "IMAGE")}


def test_read_back__is_used_where_commitment_is_not_offered(node_settings: NodeSettings, database: Database) -> None:
    settings = settings_of(node_settings, read_back=True, storage_commitment=True)
    add_result(database, settings, STUDY, ["pacs"])
    with running_committing_pacs(settings.destinations[0].port, commits=False):
        deliver(settings, database)
        prove(settings, database)
    assert proofs(database) == ["found", "found"]


def test_read_back__what_is_not_found_is_looked_for_again_and_then_sent_again(
    node_settings: NodeSettings, database: Database
) -> None:
    settings = settings_of(node_settings, read_back=True)
    _, overlay = add_result(database, settings, STUDY, ["pacs"])
    with running_committing_pacs(settings.destinations[0].port) as pacs:
        pacs.forgets = {str(overlay.SOPInstanceUID)}
        deliver(settings, database)
        for _ in range(3):
            prove(settings, database)
        assert [row.state for row in rows(database)] == ["sent", "sent"]
        prove(settings, database)
        assert [row.state for row in rows(database)] == ["sent", "waiting"]
        assert kinds_of_alerts(database, settings) == ["not_kept"]
        pacs.forgets = set()
        time.sleep(0.02)
        deliver(settings, database)
        prove(settings, database)
    assert proofs(database) == ["found", "found"]
    assert kinds_of_alerts(database, settings) == []


@pytest.mark.parametrize(
    ("finds", "forgets", "state"), [(True, False, "sent"), (True, True, "waiting"), (False, False, "sent")]
)
def test_duplicate__is_looked_for_without_any_setting(
    node_settings: NodeSettings, database: Database, finds: bool, forgets: bool, state: str
) -> None:
    """Status 0x0111: what is there is stored; what is not there is sent again; nobody can look without C-FIND."""
    settings = settings_of(node_settings)
    made = add_result(database, settings, STUDY, ["pacs"])
    with running_committing_pacs(settings.destinations[0].port, commits=False, finds=finds) as pacs:
        pacs.answer = 0x0111
        deliver(settings, database)
        if not forgets:
            pacs.stored = [(str(d.SOPInstanceUID), b"") for d in made]
        for _ in range(4):
            prove(settings, database)
    assert [row.state for row in rows(database)] == [state, state]
    expected = "none" if not finds or forgets else "found"
    assert proofs(database) == [expected, expected]
    if not finds:
        assert "not looked for" in rows(database)[0].last_message
