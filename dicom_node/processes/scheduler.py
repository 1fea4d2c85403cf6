"""The timers close complete studies and give back the jobs of silent workers. The queue itself is the job table."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dicom_node.alerts.record import try_to_close, try_to_raise
from dicom_node.analysis import completion
from dicom_node.analysis.jobs import LeaseWatch
from dicom_node.database.connection import Database
from dicom_node.database.words import AlertKind
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import clock, utc_now
from dicom_node.system.log import get_logger
from dicom_node.system.loops import attempt

_COMPLETION_EVERY_S = 1.0
_CHECKPOINT_EVERY_S = 300.0
# How long (seconds) a turn of a timer may take: one transaction, and one that talks to other systems.
_LONGEST_QUEUE_TURN_S = 60.0
_LONGEST_TURN_S = 900.0


@dataclass(eq=False)
class Timer:
    """A step that is done again and again, in a thread of its own. Times are of the monotonic clock (seconds)."""

    name: str
    step: Callable[[], object]
    every_s: float
    longest_s: float
    needs_time: bool
    done_at: float = field(default_factory=time.monotonic)
    # Whether its alert is open; None if that is not known, as after a start of the process.
    is_told_stuck: bool | None = None

    def run(self, stop: threading.Event) -> None:
        """Do it until asked to stop. A turn that comes late makes up for all that were missed."""
        while not stop.is_set():
            if not (self.needs_time and clock.fault()):
                attempt(self.step, "timer_failed", timer=self.name)
            self.done_at = time.monotonic()
            stop.wait(self.every_s)

    def stands_still(self) -> bool:
        """Whether its present turn takes too long, or its thread has ended."""
        return time.monotonic() - self.done_at > self.every_s + self.longest_s


class Scheduler:
    """Runs the timers in threads of this process. Several on one database do no harm: each step is one transaction.

    Intervals go by the monotonic clock. A step that dates, sends or deletes something is left out while the time of day
    is not plausible.
    """

    def __init__(self, settings: NodeSettings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._watch = LeaseWatch(settings.worker.lease_s)
        self._stop = threading.Event()
        self._timers: list[Timer] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the timers."""
        reclaim_every = min(10.0, self._settings.worker.lease_s / 4)
        self.every(_COMPLETION_EVERY_S, self.complete_studies, longest_s=_LONGEST_QUEUE_TURN_S)
        self.every(reclaim_every, self.reclaim_leases, longest_s=_LONGEST_QUEUE_TURN_S, needs_time=False)
        self.every(_CHECKPOINT_EVERY_S, self._database.checkpoint, longest_s=_LONGEST_QUEUE_TURN_S, needs_time=False)
        for timer in self._timers:
            timer.done_at = time.monotonic()
            thread = threading.Thread(target=timer.run, args=(self._stop,), name=f"timer-{timer.name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Stop the timers after their present run."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def every(
        self, seconds: float, step: Callable[[], object], *, longest_s: float = _LONGEST_TURN_S, needs_time: bool = True
    ) -> None:
        """Do a step every ``seconds`` seconds from the start on.

        Parameters
        ----------
        longest_s
            A turn that takes longer (seconds) is an alert, and the process is no longer well.
        needs_time
            Whether the step is left out while the time of day is not plausible.
        """
        name = getattr(step, "__name__", type(step).__name__)
        self._timers.append(Timer(name, step, seconds, longest_s, needs_time))

    def is_well(self) -> bool:
        """Whether no timer stands still; opens and closes the alerts about those that do."""
        stuck = [timer for timer in self._timers if timer.stands_still()]
        for timer in self._timers:
            is_stuck = timer in stuck
            if is_stuck and not timer.is_told_stuck:
                why = f"no turn has ended for {time.monotonic() - timer.done_at:.0f} s"
                try_to_raise(self._database, AlertKind.TIMER_STUCK, timer.name, why)
            elif not is_stuck and timer.is_told_stuck is not False:
                try_to_close(self._database, AlertKind.TIMER_STUCK, timer.name)
            timer.is_told_stuck = is_stuck
        return not stuck

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
