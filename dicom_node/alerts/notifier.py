"""Telling the receivers of alerts. Each has its own thread, so that a server that hangs holds up nothing else."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

from dicom_node.alerts import notices
from dicom_node.alerts.channels import channel_to
from dicom_node.alerts.digest import compose
from dicom_node.alerts.notices import Notice
from dicom_node.alerts.record import close_alert, raise_alert
from dicom_node.database.connection import Database
from dicom_node.database.tables import ReceiverRow
from dicom_node.database.words import AlertKind
from dicom_node.errors import NotifyError
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import Email, Webhook
from dicom_node.system.clock import back_off, has_passed, utc_now
from dicom_node.system.lifecycle import StopFlag
from dicom_node.system.log import get_logger
from dicom_node.system.loops import keep_doing, wait_for_turn


class Notifier:
    """Tells every receiver what it has not been told. Time-outs and pauses after failures come from ``[delivery]``."""

    def __init__(self, settings: NodeSettings, database: Database) -> None:
        self._settings = settings
        self._database = database

    def start(self, stop: StopFlag) -> None:
        """Tell until asked to stop, in threads that end with the process."""
        threading.Thread(target=self._run, args=(stop,), name="notifier", daemon=True).start()

    def _run(self, stop: StopFlag) -> None:
        """Tell once this process has the turn: only one process on a data folder tells the receivers."""
        with wait_for_turn(self._settings.data_dir / "notifier.lock", stop) as mine:
            if mine:
                self._run_all(stop)

    def _run_all(self, stop: StopFlag) -> None:
        receivers = self._settings.receivers
        for receiver in receivers:
            thread = threading.Thread(target=self._run_one, args=(receiver, stop), daemon=True)
            thread.name = f"notifier-{receiver.name}"
            thread.start()
        with self._database.write(even_if_lost=True) as session:
            notices.forget_others(session, [receiver.name for receiver in receivers])
        stop.wait()

    def _run_one(self, receiver: Email | Webhook, stop: StopFlag) -> None:
        def step() -> None:
            # The result is dropped on purpose: the next message must wait for its time.
            self.tell_due(receiver)

        pause = self._settings.delivery.poll_seconds
        keep_doing(step, stop, pause, failed="notifier_error", receiver=receiver.name)

    def tell_due(self, receiver: Email | Webhook, now: datetime | None = None) -> bool:
        """Send a receiver one message about everything that is due; returns whether one was sent."""
        now = now or utc_now()
        remind = timedelta(hours=self._settings.alerts.remind_hours)
        row = self._met(receiver, now)
        with self._database.read(even_if_lost=True) as session:
            due = notices.due(session, row, receiver.kinds, now=now, remind=remind)
        return self._is_time(row, due, now) and self._tell(receiver, row, due, now)

    def _met(self, receiver: Email | Webhook, now: datetime) -> ReceiverRow:
        with self._database.read(even_if_lost=True) as session:
            row = session.get(ReceiverRow, receiver.name)
        if row is None:
            with self._database.write(even_if_lost=True) as session:
                row = notices.meet(session, receiver.name, now)
        return row

    def _is_time(self, row: ReceiverRow, due: Sequence[Notice], now: datetime) -> bool:
        """Whether it is time for a message.

        The node waits a while for more notices to come in, after the last message, and after the last failure.
        """
        rules, longest = self._settings.alerts, timedelta(seconds=self._settings.delivery.retry_max_s)
        if not due or (row.next_attempt_at is not None and now < row.next_attempt_at <= now + longest):
            return False
        is_collected = has_passed(min(notice.since for notice in due), rules.collect_seconds, now)
        return is_collected and (row.last_sent_at is None or has_passed(row.last_sent_at, rules.interval_seconds, now))

    def _tell(self, receiver: Email | Webhook, row: ReceiverRow, due: Sequence[Notice], now: datetime) -> bool:
        rules = self._settings.delivery
        message = compose(self._settings.listener.ae_title, due, now)
        try:
            channel_to(receiver, timeout_s=rules.timeout_s).send(message)
        except NotifyError as error:
            pause = timedelta(seconds=back_off(row.attempts + 1, rules.retry_first_s, rules.retry_max_s))
            self._note_failure(receiver, str(error), now + pause)
            return False
        get_logger().info("notified", receiver=receiver.name, alerts=len(due))
        with self._database.write(even_if_lost=True) as session:
            notices.mark_told(session, receiver.name, due, now)
            close_alert(session, AlertKind.RECEIVER_DOWN, receiver.name)
        return True

    def _note_failure(self, receiver: Email | Webhook, why: str, next_attempt_at: datetime) -> None:
        get_logger().warning("not_notified", receiver=receiver.name, why=why)
        with self._database.write(even_if_lost=True) as session:
            notices.mark_failed(session, receiver.name, why, next_attempt_at=next_attempt_at)
            # The status page shows this alert, and the other receivers are told of it.
            raise_alert(session, AlertKind.RECEIVER_DOWN, receiver.name, why)
