"""Emptying the outbox: each destination separately, study by study."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dicom_node.alerts.record import raise_alert
from dicom_node.audit.log import AuditLog
from dicom_node.database.connection import Database
from dicom_node.database.words import AlertKind
from dicom_node.delivery import outbox, pauses
from dicom_node.delivery.channels import channel_for
from dicom_node.delivery.sending import Sending
from dicom_node.settings.node import AnyDestination, NodeSettings
from dicom_node.system.clock import clock, utc_now
from dicom_node.system.lifecycle import StopFlag
from dicom_node.system.loops import keep_doing, wait_for_turn

# After this time (seconds) an unfinished sending is abandoned; the same object goes out again at the next start.
_STOP_GRACE_S = 10.0


class Delivery:
    """Empties the outbox: one thread for each destination, so that a slow one holds up no other.

    Parameters
    ----------
    prove
        Asks a destination, after each round, whether it keeps what it got.
    """

    def __init__(
        self,
        settings: NodeSettings,
        database: Database,
        prove: Callable[[AnyDestination, StopFlag | None], None] = lambda destination, stop: None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._prove = prove
        self._audit = AuditLog(settings)

    def run(self, stop: StopFlag) -> None:
        """Deliver until asked to stop. Only one process on a data folder delivers; a second one waits for its turn."""
        lock, why = self._settings.data_dir / "delivery.lock", "another process delivers from this data folder"
        with wait_for_turn(lock, stop, waits="delivery_waits", why=why) as mine:
            if mine:
                self._run_all(stop)

    def _run_all(self, stop: StopFlag) -> None:
        self._fail_unknown_destinations()
        threads = [
            threading.Thread(target=self._run_one, args=(d, stop), name=f"delivery-{d.name}", daemon=True)
            for d in self._settings.destinations
        ]
        for thread in threads:
            thread.start()
        stop.wait()
        for thread in threads:
            thread.join(timeout=min(self._settings.delivery.timeout_s, _STOP_GRACE_S))

    def _run_one(self, destination: AnyDestination, stop: StopFlag) -> None:
        def step() -> None:
            self.take_turn(destination, stop)

        pause = self._settings.delivery.poll_seconds
        keep_doing(step, stop, pause, failed="delivery_error", destination=destination.name)

    def take_turn(self, destination: AnyDestination, stop: StopFlag | None = None) -> None:
        """Send what is due for one destination, then ask it what it keeps.

        Not while the time of day is wrong: what is sent would be dated by it, at the destination and here.
        """
        if clock.fault():
            return
        self.deliver_due(destination, stop)
        if not self._is_paused(destination):
            self._prove(destination, stop)

    def deliver_due(self, destination: AnyDestination, stop: StopFlag | None = None) -> None:
        """Try once to send everything that is due for one destination, unless that is paused."""
        if self._is_paused(destination):
            return
        with self._database.read() as session:
            pause = self._settings.delivery.retry_max_s
            groups = outbox.due(session, destination.name, now=utc_now(), longest_pause_s=pause)
        for group in groups:
            if (stop is not None and stop.is_set()) or self._is_paused(destination):
                return
            sending = Sending(self._settings, self._database, self._audit, destination, group)
            sending.run(channel_for(self._settings, destination, self._database))

    def _is_paused(self, destination: AnyDestination) -> bool:
        with self._database.read() as session:
            return destination.name in pauses.paused_since(session)

    def _fail_unknown_destinations(self) -> None:
        """Raise an alert if something waits for a destination that the settings no longer have."""
        with self._database.write() as session:
            for name in outbox.waiting_destinations(session):
                if self._settings.destination(name) is None:
                    raise_alert(
                        session, AlertKind.DESTINATION_DOWN, name, "waits for a destination that is not in the settings"
                    )
