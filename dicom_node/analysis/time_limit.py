"""A job's own time limit: a study that takes too long to read ends in a coded refusal, not in endless attempts.

First an alarm interrupts Python. Code in C that never comes back to Python is not interrupted by that: a while later the whole
process ends, and what it leaves behind says why. Whoever takes the job next refuses the study without reading it again.
"""

from __future__ import annotations

import faulthandler
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
# How long after the first ring the process ends (seconds), unless the ring has interrupted what it does.
END_AFTER_S = 60.0
# Where it is noted, below the data folder, which jobs are being done; see `_Note`.
FOLDER = "overdue"


class TimeIsUp(BaseException):
    """Raised in the main thread, wherever it is, when a job has used up its time."""


class TimeLimit:
    """Interrupts the job that is done in its context, after so many seconds. It works in the main thread only.

    Parameters
    ----------
    seconds
        The time of a job.
    data_dir
        The node's data folder.
    """

    def __init__(self, seconds: float, data_dir: Path) -> None:
        self.seconds = seconds
        self._folder = data_dir / FOLDER
        self._is_running = False
        self._note: _Note | None = None

    @contextmanager
    def of_job(self, job_id: int) -> Iterator[None]:
        """The time of a job begins, and ends with the block.

        Raises
        ------
        OSError
            If it cannot be noted that the job is being done.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGALRM, self._ring)
        self._note = _Note(self._folder, job_id)
        self._is_running = True
        self._start(self.seconds)
        try:
            yield
        finally:
            self._is_running = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
            signal.signal(signal.SIGALRM, before)
            self._note.remove()
            self._note = None

    @property
    def was_used_up(self) -> bool:
        """Whether a process had to be ended because it did not end this job in time."""
        return self._note is not None and self._note.was_written

    def again(self) -> None:
        """Begin anew: what comes after an interruption has the same time, and enough to write down what happened."""
        self._start(max(self.seconds, _LEAST_AGAIN_S))

    def _start(self, seconds: float) -> None:
        if self._is_running and self._note is not None:
            signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
            self._note.end_process_after(seconds + END_AFTER_S)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self._is_running:
            raise TimeIsUp(self.message)

    @property
    def message(self) -> str:
        """What is wrong with a job whose time is up."""
        return f"took longer than worker.job_limit_s ({self.seconds:g} s)"


class _Note:
    """A file that is there while a job is being done. It is empty unless the process was ended because of the time.

    Its bytes are written by the interpreter's own watchdog, a thread that needs neither Python nor its lock, just before it ends
    the process: which lines of code were being executed. A worker that was killed, or lost its power, leaves the file empty: its
    job is tried again.
    """

    def __init__(self, folder: Path, job_id: int) -> None:
        folder.mkdir(exist_ok=True, mode=0o750)
        self._path = folder / str(job_id)
        self.was_written = self._path.is_file() and self._path.stat().st_size > 0
        self._file = self._path.open("ab")

    def end_process_after(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._file)

    def remove(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


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
        """See `StudyReader`; ``time_limit`` if it takes too long, or did so before and the process had to be ended."""
        try:
            if not self._limit.was_used_up:
                return self._reader.read_study(paths, **options)
        except TimeIsUp:
            pass
        self._limit.again()
        detail = f"reading {self._limit.message}"
        return _NoReading(Detection.refused(self._reader.identity, "", Reason.TIME_LIMIT, detail))

    def gpu_memory(self) -> tuple[str, int, int] | None:
        """See `StudyReader`."""
        return self._reader.gpu_memory()
