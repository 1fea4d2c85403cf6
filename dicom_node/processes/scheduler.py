"""The timers close complete studies and give back the jobs of silent workers. The queue itself is the job table."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node.analysis import completion
from dicom_node.analysis.jobs import LeaseWatch
from dicom_node.database.connection import Database
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.system.log import get_logger
from dicom_node.system.loops import attempt

_COMPLETION_EVERY_S = 1.0
_CLOCK_EVERY_S = 1.0
_CHECKPOINT_EVERY_S = 300.0
# A step back of this size (seconds) is more than NTP's slewing makes.
_SET_BACK_S = 0.5


class Scheduler:
    """Runs the timers in threads of this process. Several on one database do no harm: each step is one transaction.

    APScheduler goes by the time of day: if that is set back, its timers would stand still until the old time has come
    again. So the time of day is compared with the monotonic clock, and every timer is run at once if it went back.
    """

    def __init__(self, settings: NodeSettings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._watch = LeaseWatch(settings.worker.lease_s)
        self._timer = BackgroundScheduler(timezone="UTC")
        self._stop = threading.Event()
        self._clock_watch = threading.Thread(target=self._watch_clock, name="clock", daemon=True)

    def start(self) -> None:
        """Start the timers."""
        reclaim_every = min(10.0, self._settings.worker.lease_s / 4)
        self.every(_COMPLETION_EVERY_S, self.complete_studies)
        self.every(reclaim_every, self.reclaim_leases)
        self.every(_CHECKPOINT_EVERY_S, self._database.checkpoint)
        self._timer.start()
        self._clock_watch.start()

    def stop(self) -> None:
        """Stop the timers after their present run."""
        self._stop.set()
        self._clock_watch.join()
        self._timer.shutdown(wait=True)

    def complete_studies(self) -> None:
        """Queue a job for each study that has gone quiet."""
        with self._database.write() as session:
            due = completion.complete_due(
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
        """Run a step every ``seconds`` seconds, starting now."""
        self._timer.add_job(
            partial(attempt, step, "timer_failed", timer=step.__name__),
            "interval",
            seconds=seconds,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )

    def _watch_clock(self) -> None:
        lead = _lead()
        while not self._stop.wait(_CLOCK_EVERY_S):
            before, lead = lead, _lead()
            if lead < before - _SET_BACK_S:
                get_logger().warning("clock_set_back", seconds=round(before - lead, 1))
                for job in self._timer.get_jobs():
                    job.modify(next_run_time=utc_now())


def _lead() -> float:
    """How far the time of day is ahead of the monotonic clock, in seconds."""
    return time.time() - time.monotonic()
