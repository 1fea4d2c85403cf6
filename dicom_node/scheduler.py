"""The timers: closing complete studies, and giving the jobs of silent workers back. The job table is the queue, not this."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dicom_node import studies
from dicom_node.jobs import LeaseWatch
from dicom_node.log import get_logger
from dicom_node.schema import Database, utc_now
from dicom_node.settings import NodeSettings

_COMPLETION_EVERY_S = 1.0


class Scheduler:
    """Runs each timer in a thread of this process. Several on one database do no harm: each step is one transaction.

    By the monotonic clock: a timer that goes by the time of day stands still when that is set back.
    """

    def __init__(self, settings: NodeSettings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._watch = LeaseWatch(settings.worker.lease_s)
        self._stop = threading.Event()
        self._timers: list[threading.Thread] = []

    def start(self) -> None:
        """Start the timers."""
        reclaim_every = min(10.0, self._settings.worker.lease_s / 4)
        self.every(_COMPLETION_EVERY_S, self.complete_studies)
        self.every(reclaim_every, self.reclaim_leases)
        for timer in self._timers:
            timer.start()

    def stop(self) -> None:
        """Stop the timers after their present run."""
        self._stop.set()
        for timer in self._timers:
            timer.join()

    def complete_studies(self) -> None:
        """Queue a job for each study that has gone quiet."""
        with self._database.write() as session:
            due = studies.complete_due(
                session,
                now=utc_now(),
                quiet_seconds=self._settings.study.quiet_seconds,
                max_wait_seconds=self._settings.study.max_wait_seconds,
                quiet_seconds_after_release=self._settings.study.quiet_seconds_after_release,
            )
        for study in due:
            counted = {} if study.images_expected is None else {"of": study.images_expected, "here": study.images_here}
            get_logger().info("study_complete", study_uid=study.study_uid, generation=study.generation, **counted)

    def reclaim_leases(self) -> None:
        """Give the jobs of silent workers back to the queue."""
        with self._database.write() as session:
            reclaimed = self._watch.reclaim(session, max_attempts=self._settings.worker.max_attempts)
        for job in reclaimed:
            get_logger().warning("lease_expired", job=job)

    def every(self, seconds: float, step: Callable[[], None]) -> None:
        """Run a step every so many seconds, from the start on; the pause begins when the step has ended."""
        self._timers.append(
            threading.Thread(target=self._repeat, args=(seconds, step), name=step.__name__, daemon=True)
        )

    def _repeat(self, seconds: float, step: Callable[[], None]) -> None:
        while not self._stop.wait(seconds):
            try:
                step()
            except Exception:  # a locked or unreachable database: the next run tries again
                get_logger().exception("timer_failed", timer=step.__name__)
