"""A job's own time limit: a study that takes too long to read ends in a coded refusal, not in endless attempts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from dicom_node.analysis.detector import StudyReader
from spineone_core.findings import Detection, Reason
from spineone_core.imaging.selection import Selection
from spineone_core.imaging.volume import SagittalVolume

# Between two rings: a library may swallow the first one.
_AGAIN_S = 5.0
_LEAST_AGAIN_S = 60.0


class TimeIsUp(BaseException):
    """Raised in the main thread, wherever it is, when a job has used up its time."""


class TimeLimit:
    """Interrupts the block that it is the context of, after so many seconds. It works in the main thread only.

    Code in C is interrupted when it comes back to Python.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._is_running = False
        self._before: Any = None

    def __enter__(self) -> TimeLimit:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGALRM, self._ring)
            self._is_running = True
            self._start(self.seconds)
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_running:
            self._is_running = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)

    def again(self) -> None:
        """Begin anew: what comes after an interruption has the same time, and enough to write down what happened."""
        self._start(max(self.seconds, _LEAST_AGAIN_S))

    def _start(self, seconds: float) -> None:
        if self._is_running:
            signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self._is_running:
            raise TimeIsUp(f"took longer than worker.job_limit_s ({self.seconds:g} s)")


@dataclass(frozen=True, slots=True)
class _NoReading:
    """A reading that was interrupted."""

    detection: Detection
    volume: SagittalVolume | None = None
    selection: Selection = field(default_factory=lambda: Selection(None, Reason.TIME_LIMIT, "", ()))


class TimedReader:
    """A `StudyReader` whose reading is interrupted by a time limit, and then is a refusal."""

    def __init__(self, reader: StudyReader, limit: TimeLimit) -> None:
        self._reader = reader
        self._limit = limit
        self.identity = reader.identity

    def read_study(self, paths: Sequence[Path], **options: Any) -> Any:
        """See `StudyReader`; ``time_limit`` if it takes too long."""
        try:
            return self._reader.read_study(paths, **options)
        except TimeIsUp as error:
            self._limit.again()
            return _NoReading(Detection.refused(self._reader.identity, "", Reason.TIME_LIMIT, f"reading {error}"))

    def gpu_memory(self) -> tuple[str, int, int] | None:
        """See `StudyReader`."""
        return self._reader.gpu_memory()
