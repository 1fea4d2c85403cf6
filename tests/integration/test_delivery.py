"""The real delivery, with a PACS that answers what the test wants."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.database.connection import Database
from dicom_node.database.tables import OutboxRow
from dicom_node.delivery import outbox, pauses
from dicom_node.delivery.channel import Outcome
from dicom_node.delivery.deliverer import Delivery
from dicom_node.delivery.store_scu import Sender, classify
from dicom_node.errors import DeliveryError
from dicom_node.health import overview
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.system.lifecycle import StopFlag
from tests.fakes.datasets import STUDY
from tests.fakes.pacs import SC, SR, SR_2D, FakePacs, running_pacs
from tests.fakes.results import add_result
from tests.fakes.scu import free_port

STORESCP = Path("/usr/bin/storescp")

pytestmark = pytest.mark.both_databases


@pytest.fixture
def ports() -> dict[str, int]:
    return {"pacs": free_port(), "second": free_port()}


@pytest.fixture
def settings(node_settings: NodeSettings, ports: dict[str, int]) -> NodeSettings:
    destinations = [{"name": n, "ae_title": "PACS", "host": "127.0.0.1", "port": p} for n, p in ports.items()]
    delivery = {"timeout_s": 2, "retry_first_s": 0.01, "retry_max_s": 0.05, "poll_seconds": 0.1}
    return NodeSettings(**{**node_settings.model_dump(), "destinations": destinations, "delivery": delivery})


@pytest.fixture
def pacs(ports: dict[str, int]) -> Iterator[FakePacs]:
    with running_pacs(ports["pacs"]) as running:
        yield running


@pytest.fixture
def result(database: Database, settings: NodeSettings) -> list[Dataset]:
    """A stored result of a report and an overlay, for the first destination alone."""
    return add_result(database, settings, STUDY, ["pacs"])


BOTH_FORMS = (("report", SR), ("overlay", SC), ("report_2d", SR_2D))


def deliver(settings: NodeSettings, database: Database, name: str = "pacs") -> None:
    destination = settings.destination(name)
    assert destination
    Delivery(settings, database).deliver_due(destination)


def rows(database: Database) -> list[OutboxRow]:
    with database.read() as session:
        return list(session.scalars(select(OutboxRow).order_by(OutboxRow.id)))


def states(database: Database) -> list[str]:
    return [row.state for row in rows(database)]


def kinds_of_alerts(database: Database, settings: NodeSettings) -> list[str]:
    with database.read() as session:
        return [alert["kind"] for alert in overview.status(session, settings)["alerts"]]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, Outcome.SENT),
        (0xB000, Outcome.SENT),
        (0xB007, Outcome.SENT),
        (0x0111, Outcome.SENT),
        (0xA700, Outcome.RETRY),
        (0xA701, Outcome.RETRY),
        (0x0110, Outcome.RETRY),
        (0x0213, Outcome.RETRY),
        (0xA900, Outcome.FAILED),
        (0xC000, Outcome.FAILED),
        (0xC123, Outcome.FAILED),
        (0x0122, Outcome.FAILED),
        (0x0117, Outcome.FAILED),
        (0x0124, Outcome.FAILED),
        (0x4242, Outcome.FAILED),
    ],
)
def test_classify__as_the_table_says(status: int, outcome: Outcome) -> None:
    assert classify(status).outcome is outcome


def test_deliver__the_stored_bytes_on_one_association(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: FakePacs
) -> None:
    deliver(settings, database)
    assert states(database) == ["sent", "sent"]
    assert pacs.associations == 1
    stored = dict(pacs.stored)
    for row, dataset in zip(("report", "overlay"), result, strict=True):
        file = (settings.data_dir / "results" / STUDY / f"{row}.dcm").read_bytes()
        assert file.endswith(stored[dataset.SOPInstanceUID])
    deliver(settings, database)
    assert len(pacs.stored) == 2


@pytest.mark.parametrize(("status", "state"), [(0xA700, "waiting"), (0xB000, "sent"), (0xC000, "failed")])
def test_deliver__an_answer_decides_the_state(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: FakePacs, status: int, state: str
) -> None:
    pacs.answer = status
    deliver(settings, database)
    assert states(database) == [state, state]
    assert {row.last_status for row in rows(database)} == {status}
    assert ("delivery_failed" in kinds_of_alerts(database, settings)) is (state == "failed")


def test_deliver__after_out_of_resources_it_is_tried_again(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: FakePacs
) -> None:
    pacs.answer = 0xA700
    deliver(settings, database)
    pacs.answer = 0
    time.sleep(0.05)
    deliver(settings, database)
    assert states(database) == ["sent", "sent"]
    assert [row.attempts for row in rows(database)] == [2, 2]


def test_deliver__a_connection_lost_before_the_answer_sends_the_same_uid_again(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: FakePacs
) -> None:
    received: list[str] = []

    def drop(event: Any) -> int:
        received.append(str(event.request.AffectedSOPInstanceUID))
        event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        return 0xC000

    pacs.answer = drop
    deliver(settings, database)
    assert states(database) == ["waiting", "waiting"]
    assert len(received) == 1
    pacs.answer = 0
    time.sleep(0.05)
    deliver(settings, database)
    assert states(database) == ["sent", "sent"]
    assert received[0] in pacs.uids
    assert pacs.associations == 2


def test_deliver__a_pacs_that_takes_no_report_gets_the_overlay(
    settings: NodeSettings, database: Database, result: list[Dataset], ports: dict[str, int]
) -> None:
    with running_pacs(ports["pacs"], classes=(SC,)) as pacs:
        deliver(settings, database)
    assert states(database) == ["failed", "sent"]
    assert rows(database)[0].last_message == "the destination takes no Comprehensive 3D SR Storage"
    assert pacs.uids == [str(result[1].SOPInstanceUID)]
    assert "delivery_failed" in kinds_of_alerts(database, settings)


@pytest.mark.parametrize(("classes", "index"), [((SR, SR_2D, SC), 0), ((SR_2D, SC), 2), ((SR, SC), 0)])
def test_deliver__a_report_goes_in_the_form_that_the_pacs_takes(
    settings: NodeSettings, database: Database, ports: dict[str, int], classes: tuple[str, ...], index: int
) -> None:
    made = add_result(database, settings, STUDY, ["pacs"], BOTH_FORMS)
    with running_pacs(ports["pacs"], classes=classes) as pacs:
        deliver(settings, database)
    assert states(database) == ["sent", "sent"]
    assert set(pacs.uids) == {str(made[index].SOPInstanceUID), str(made[1].SOPInstanceUID)}


@pytest.mark.parametrize(("first", "then"), [((SR_2D, SC), (SR, SR_2D, SC)), ((SR, SC), (SR_2D, SC))])
def test_deliver__never_two_forms_of_one_result_at_one_destination(
    settings: NodeSettings, database: Database, ports: dict[str, int], first: tuple[str, ...], then: tuple[str, ...]
) -> None:
    """That holds even if the PACS lost the connection, was given other SOP classes and is sent everything again."""
    add_result(database, settings, STUDY, ["pacs"], BOTH_FORMS)
    received: list[str] = []

    def drop(event: Any) -> int:
        received.append(str(event.request.AffectedSOPInstanceUID))
        event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        return 0xC000

    with running_pacs(ports["pacs"], classes=first) as pacs:
        pacs.answer = drop
        deliver(settings, database)
    assert len(received) == 1
    with database.write() as session:
        outbox.resend(session, STUDY)
    with running_pacs(ports["pacs"], classes=then) as pacs:
        deliver(settings, database)
    reports = {uid for uid in [*received, *pacs.uids] if uid != str(f"{STUDY}.1.2")}
    assert len(reports) == 1


def test_deliver__each_destination_gets_its_form(
    settings: NodeSettings, database: Database, ports: dict[str, int]
) -> None:
    made = add_result(database, settings, STUDY, ["pacs", "second"], BOTH_FORMS)
    with running_pacs(ports["pacs"]) as pacs, running_pacs(ports["second"], classes=(SR_2D, SC)) as second:
        deliver(settings, database)
        deliver(settings, database, "second")
    assert states(database) == ["sent"] * 4
    assert pacs.uids[0] == str(made[0].SOPInstanceUID)
    assert second.uids[0] == str(made[2].SOPInstanceUID)


def test_deliver__a_refused_report_may_still_go_in_the_other_form(
    settings: NodeSettings, database: Database, ports: dict[str, int]
) -> None:
    """If neither form was accepted, nothing was sent: the choice stays open for `resend`."""
    made = add_result(database, settings, STUDY, ["pacs"], BOTH_FORMS)
    with running_pacs(ports["pacs"], classes=(SC,)):
        deliver(settings, database)
    assert states(database) == ["failed", "sent"]
    with database.write() as session:
        outbox.resend(session, STUDY)
    with running_pacs(ports["pacs"], classes=(SR_2D, SC)) as pacs:
        deliver(settings, database)
    assert pacs.uids[0] == str(made[2].SOPInstanceUID)


def test_deliver__an_unreachable_pacs_waits_visibly_and_gets_it_later(
    settings: NodeSettings, database: Database, result: list[Dataset], ports: dict[str, int]
) -> None:
    deliver(settings, database)
    assert states(database) == ["waiting", "waiting"]
    with database.read() as session:
        shown = overview.status(session, settings)["destinations"][0]
    assert (shown["waiting"], shown["name"]) == (2, "pacs")
    assert "cannot be reached" in shown["last_error"]
    assert "destination_down" in kinds_of_alerts(database, settings)
    time.sleep(0.05)
    with running_pacs(ports["pacs"]):
        deliver(settings, database)
    assert states(database) == ["sent", "sent"]
    assert kinds_of_alerts(database, settings) == []


def wait_out_a_long_pause(database: Database, *, status: int | None = None) -> None:
    """Everything that waits does so for another half an hour, after an answer of this status, or none."""
    with database.write() as session:
        for row in session.scalars(select(OutboxRow).where(OutboxRow.state == "waiting")):
            row.next_attempt_at, row.attempts, row.last_status = utc_now() + timedelta(minutes=30), 9, status


def patient_settings(settings: NodeSettings) -> NodeSettings:
    """Settings whose pauses are long enough to see whether they are waited out."""
    rules = settings.delivery.model_dump() | {"retry_first_s": 60, "retry_max_s": 1800}
    return NodeSettings(**{**settings.model_dump(), "delivery": rules})


def test_deliver__a_destination_that_is_back_gets_all_that_waits(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: FakePacs
) -> None:
    settings = patient_settings(settings)
    wait_out_a_long_pause(database)
    deliver(settings, database)
    assert states(database) == ["waiting", "waiting"]
    add_result(database, settings, "1.2.9", ["pacs"])
    deliver(settings, database)
    assert states(database) == ["waiting", "waiting", "sent", "sent"]
    deliver(settings, database)
    assert states(database) == ["sent"] * 4


def test_deliver__what_the_destination_itself_put_off_waits_on(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: FakePacs
) -> None:
    settings = patient_settings(settings)
    wait_out_a_long_pause(database, status=0xA700)
    add_result(database, settings, "1.2.9", ["pacs"])
    for _ in range(2):
        deliver(settings, database)
    assert states(database) == ["waiting", "waiting", "sent", "sent"]
    with database.write() as session:
        assert outbox.wake(session, "second") == 0
        assert outbox.wake(session, "pacs") == 2
    deliver(settings, database)
    assert states(database) == ["sent"] * 4


def test_deliver__nothing_goes_to_a_paused_destination(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: FakePacs
) -> None:
    asked: list[str] = []
    with database.write() as session:
        assert pauses.pause(session, "pacs")
        assert not pauses.pause(session, "pacs")
    delivery = Delivery(settings, database, prove=lambda destination, stop: asked.append(destination.name))
    stop = StopFlag()
    runner = threading.Thread(target=delivery.run, args=(stop,))
    runner.start()
    until(lambda: "second" in asked)
    assert (states(database), pacs.associations) == (["waiting", "waiting"], 0)
    assert "pacs" not in asked
    with database.write() as session:
        (shown, other) = overview.status(session, settings)["destinations"]
        assert shown["paused_since"]
        assert other["paused_since"] is None
        assert pauses.resume(session, "pacs")
        assert not pauses.resume(session, "pacs")
    until(lambda: states(database) == ["sent", "sent"] and "pacs" in asked)
    stop.set()
    runner.join()


def test_deliver__goes_on_when_the_clock_was_set_back(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: FakePacs
) -> None:
    with database.write() as session:
        for row in session.scalars(select(OutboxRow)):
            row.next_attempt_at = utc_now() + timedelta(days=1)
    deliver(settings, database)
    assert states(database) == ["sent", "sent"]


def test_deliver__a_rejected_association_says_why(
    settings: NodeSettings, database: Database, result: list[Dataset], ports: dict[str, int]
) -> None:
    with running_pacs(ports["pacs"], ae_title="OTHER"):
        deliver(settings, database)
    assert states(database) == ["waiting", "waiting"]
    assert "Called AE title not recognised" in rows(database)[0].last_message


def test_deliver__a_silent_pacs_is_given_up_in_time(
    settings: NodeSettings, database: Database, result: list[Dataset], ports: dict[str, int]
) -> None:
    with socket.create_server(("127.0.0.1", ports["pacs"])):
        began = time.monotonic()
        deliver(settings, database)
        assert time.monotonic() - began < 8
    assert states(database) == ["waiting", "waiting"]


def test_deliver__destinations_are_independent(
    settings: NodeSettings, database: Database, ports: dict[str, int]
) -> None:
    add_result(database, settings, "1.2.3", ["pacs", "second"])
    stop = StopFlag()
    with running_pacs(ports["second"]) as second:
        runner = threading.Thread(target=Delivery(settings, database).run, args=(stop,))
        runner.start()
        until(lambda: len(second.stored) == 2)
        until(lambda: states(database).count("sent") == 2)
        with running_pacs(ports["pacs"]) as first:
            until(lambda: len(first.stored) == 2)
            until(lambda: states(database).count("sent") == 4)
        stop.set()
        runner.join(10)
    assert not runner.is_alive()
    assert len(second.stored) == 2


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_deliver__a_changed_file_is_never_sent(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: FakePacs
) -> None:
    (settings.data_dir / "results" / STUDY / "report.dcm").write_bytes(b"changed")
    deliver(settings, database)
    assert states(database) == ["failed", "sent"]
    assert "changed on disk" in rows(database)[0].last_message


def test_resend__sends_the_same_objects_again(
    settings: NodeSettings, database: Database, result: list[Dataset], pacs: FakePacs
) -> None:
    deliver(settings, database)
    with database.write() as session:
        assert outbox.resend(session, STUDY) == 2
        assert outbox.resend(session, "1.2.3") == 0
    deliver(settings, database)
    assert pacs.uids[:2] == pacs.uids[2:]
    assert pacs.stored[:2] == pacs.stored[2:]


def test_echo(settings: NodeSettings, pacs: FakePacs) -> None:
    first, second = settings.destinations
    Sender(first, calling_ae="SPINEONE", timeout_s=2).echo()
    with pytest.raises(DeliveryError, match="cannot be reached"):
        Sender(second, calling_ae="SPINEONE", timeout_s=2).echo()


@pytest.mark.skipif(not STORESCP.exists(), reason="needs DCMTK")
def test_deliver__to_dcmtk(
    settings: NodeSettings, database: Database, result: list[Dataset], ports: dict[str, int], tmp_path: Path
) -> None:
    command = [str(STORESCP), "-aet", "PACS", "-od", str(tmp_path), str(ports["pacs"])]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        destination = settings.destinations[0]
        until(lambda: answers(Sender(destination, calling_ae="SPINEONE", timeout_s=2)))
        deliver(settings, database)
        process.terminate()
    assert states(database) == ["sent", "sent"]
    assert (
        len([path for path in tmp_path.iterdir() if path.is_file() and "." in path.name and "node" not in path.name])
        >= 2
    )


def answers(sender: Sender) -> bool:
    try:
        sender.echo()
    except DeliveryError:
        return False
    return True
