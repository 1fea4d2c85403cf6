"""Who is told of which alert, and when."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from dicom_node.alerts import notices
from dicom_node.alerts.notifier import Notifier
from dicom_node.alerts.record import close_alert, open_alerts, raise_alert
from dicom_node.analysis import completion, jobs
from dicom_node.database.connection import Database
from dicom_node.database.tables import ReceiverRow
from dicom_node.health import overview
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import AlertsRules, Email, Webhook
from dicom_node.system.clock import utc_now
from dicom_node.system.lifecycle import StopFlag
from dicom_node.system.log import configure_logging
from tests.fakes.datasets import STUDY, incoming, mr_image
from tests.fakes.post import MailServer, running_mail_server, running_web_server
from tests.fakes.scu import free_port

RULES = AlertsRules(collect_seconds=60, interval_seconds=300, remind_hours=24)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with running_mail_server() as server:
        yield server


def team(port: int, **options: Any) -> Email:
    return Email(
        name="team", to=("a@h.example",), sender="n@h.example", host="127.0.0.1", port=port, security="none", **options
    )


def with_receivers(settings: NodeSettings, *receivers: Email | Webhook, rules: AlertsRules = RULES) -> NodeSettings:
    emails = tuple(receiver for receiver in receivers if isinstance(receiver, Email))
    webhooks = tuple(receiver for receiver in receivers if isinstance(receiver, Webhook))
    return settings.model_copy(update={"alerts": rules, "emails": emails, "webhooks": webhooks})


def texts(server: MailServer) -> list[str]:
    return [str(mail.get_content()) for mail in server.mails]


def alert(database: Database, kind: str = "quarantine", subject: str = "1.2.3", detail: str = "why") -> None:
    with database.write() as session:
        raise_alert(session, kind, subject, detail)


@pytest.fixture
def told(node_settings: NodeSettings, database: Database, mail: MailServer) -> Callable[..., bool]:
    """Whether a mail goes out this many minutes from now."""
    receiver = team(mail.port)
    notifier = Notifier(with_receivers(node_settings, receiver), database)
    began = utc_now()
    with database.write() as session:
        notices.meet(session, "team", began)
    return lambda minutes: notifier.tell_due(receiver, began + minutes * MINUTE)


@pytest.mark.both_databases
def test_alert__is_told_once_then_reminded_of_then_over(
    told: Callable[..., bool], database: Database, mail: MailServer
) -> None:
    alert(database)
    assert not told(0.5)
    assert told(2)
    alert(database)
    assert not told(20)
    assert not told(60 * 24)
    assert told(60 * 24 + 10)
    with database.write() as session:
        close_alert(session, "quarantine", "1.2.3")
    assert told(60 * 24 + 20)
    assert not told(60 * 100)
    first, reminder, over = texts(mail)
    assert "NEW: quarantine, 1" in first
    assert "1.2.3" in first
    assert "why" in first
    assert "STILL OPEN: quarantine, 1" in reminder
    assert "2 times" in reminder
    assert "OVER: quarantine, 1" in over
    assert mail.mails[0]["Subject"] == "[SPINEONE] alerts: 1 new (quarantine)"


@pytest.mark.both_databases
def test_burst__is_one_message(told: Callable[..., bool], database: Database, mail: MailServer) -> None:
    for number in range(100):
        alert(database, subject=f"1.2.{number}")
    assert not told(0.9)
    assert told(2)
    (text,) = texts(mail)
    assert "NEW: quarantine, 100" in text
    assert "and 80 more" in text
    assert not told(60)
    alert(database, "job_failed", STUDY)
    assert told(90)
    assert "NEW: job_failed, 1" in texts(mail)[1]
    assert "quarantine" not in texts(mail)[1]


def test_clock__set_back_by_a_day_delays_nothing(
    told: Callable[..., bool], database: Database, mail: MailServer
) -> None:
    alert(database, subject="1.2.1")
    assert told(2)
    alert(database, subject="1.2.2")
    # Both the last message and the new alert lie ahead.
    assert told(-24 * 60)
    assert "1.2.2" in texts(mail)[1]


def test_flapping__is_one_message_an_interval(told: Callable[..., bool], database: Database, mail: MailServer) -> None:
    sent = 0
    for minute in range(2, 12):
        alert(database, "destination_down", "pacs")
        with database.write() as session:
            close_alert(session, "destination_down", "pacs")
        sent += told(minute)
    assert sent == 2
    assert "OVER: destination_down, 1" in texts(mail)[0]
    assert "OVER: destination_down, 5" in texts(mail)[1]


def test_kinds__others_are_not_told(node_settings: NodeSettings, database: Database, mail: MailServer) -> None:
    receiver = team(mail.port, kinds=("job_failed",))
    notifier = Notifier(with_receivers(node_settings, receiver), database)
    alert(database)
    assert not notifier.tell_due(receiver, utc_now() + 2 * MINUTE)
    alert(database, "job_failed", STUDY)
    assert notifier.tell_due(receiver, utc_now() + 2 * MINUTE)
    assert "quarantine" not in texts(mail)[0]


def test_new_receiver__is_told_what_is_open_and_not_what_is_past(
    node_settings: NodeSettings, database: Database, mail: MailServer
) -> None:
    alert(database, "destination_down", "past")
    with database.write() as session:
        close_alert(session, "destination_down", "past")
    alert(database, "destination_down", "present")
    receiver = team(mail.port)
    assert Notifier(with_receivers(node_settings, receiver), database).tell_due(receiver, utc_now() + 2 * MINUTE)
    assert "present" in texts(mail)[0]
    assert "past" not in texts(mail)[0]


@pytest.mark.both_databases
def test_server_down__it_is_told_later_by_another_process(node_settings: NodeSettings, database: Database) -> None:
    port, began = free_port(), utc_now()
    with running_web_server() as web:
        down, other = team(port), Webhook(name="pager", url=f"http://127.0.0.1:{web.port}/")
        settings = with_receivers(node_settings, down, other)
        notifier = Notifier(settings, database)
        assert not notifier.tell_due(down, began)
        alert(database, detail="lost?")
        for minute, attempts in ((2, 1), (2.1, 1), (2.3, 2), (2.5, 2), (2.7, 3)):
            assert not notifier.tell_due(down, began + minute * MINUTE)
            with database.read() as session:
                assert session.get_one(ReceiverRow, "team").attempts == attempts
        with database.read() as session:
            state = overview.status(session, settings)
        (shown, _) = state["receivers"]
        assert (shown["name"], shown["to_tell"], shown["failures"]) == ("team", 1, 3)
        assert "refused" in shown["last_error"]
        assert notifier.tell_due(other, began + 5 * MINUTE)
        kinds = {each["kind"] for each in json.loads(web.posts[0][2])["alerts"]}
        assert kinds == {"quarantine", "receiver_down"}
    with database.write() as session:
        close_alert(session, "quarantine", "1.2.3")
    with running_mail_server(port=port) as server:
        assert Notifier(settings, database).tell_due(down, began + 60 * MINUTE)
        assert not Notifier(settings, database).tell_due(down, began + 120 * MINUTE)
        (text,) = texts(server)
    assert "OVER: quarantine, 1" in text
    assert "receiver_down" not in text
    with database.read() as session:
        assert not open_alerts(session)


def test_killed_after_sending__is_told_again(
    node_settings: NodeSettings, database: Database, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = team(mail.port)
    notifier = Notifier(with_receivers(node_settings, receiver), database)
    alert(database)

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(notices, "mark_told", killed)
        with pytest.raises(KeyboardInterrupt):
            notifier.tell_due(receiver, utc_now() + 2 * MINUTE)
    assert notifier.tell_due(receiver, utc_now() + 3 * MINUTE)
    assert len(mail.mails) == 2


def test_hanging_server__holds_up_no_other_receiver(
    node_settings: NodeSettings, database: Database, mail: MailServer
) -> None:
    now = AlertsRules(collect_seconds=0, interval_seconds=0)
    fast = node_settings.delivery.model_copy(update={"poll_seconds": 0.05})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        settings = with_receivers(node_settings, team(mail.port), Webhook(name="hangs", url=url), rules=now)
        stop = StopFlag()
        Notifier(settings.model_copy(update={"delivery": fast}), database).start(stop)
        try:
            for count in (1, 2):
                alert(database, subject=f"1.2.{count}")
                deadline = time.monotonic() + 10
                while len(mail.mails) < count and time.monotonic() < deadline:
                    time.sleep(0.02)
                assert len(mail.mails) == count
        finally:
            stop.set()


def test_alerts__hold_no_patient_data(
    node_settings: NodeSettings, database: Database, mail: MailServer, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info")
    store = InstanceStore(database, node_settings.data_dir)
    other_patient = mr_image(3)
    other_patient.PatientID = "SECRET-OTHER"
    broken = mr_image(4)
    broken.StudyInstanceUID = "SECRET^NAME"
    for dataset in (mr_image(1), mr_image(1, fill=8), other_patient, broken):
        store.receive(incoming(dataset))
    with database.write() as session:
        study = completion.complete_due(session, now=utc_now(), quiet_seconds=0, max_wait_seconds=0)
        assert study
        claim = jobs.claim(session, "w", now=utc_now())
        assert claim is not None
        jobs.reject(session, claim, "not whole")
    receiver = team(mail.port)
    assert Notifier(with_receivers(node_settings, receiver), database).tell_due(receiver, utc_now() + 2 * MINUTE)
    (text,) = texts(mail)
    assert "quarantine, 2" in text
    assert "job_failed, 1" in text
    assert "SECRET" not in text + capsys.readouterr().out
