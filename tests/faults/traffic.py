"""Senders that stream studies as routers do: an image that was not acknowledged is sent again until it is."""

from __future__ import annotations

import hashlib
import itertools
import random
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from spineone_core.phantom.config import DEMO_CONFIG
from spineone_core.phantom.dicom import write_exam
from tests.fakes import wire
from tests.fakes.datasets import encode, mr_image

_ROOT = "1.2.826.0.1.3680043.10.8"
# Longer than a writer waits for the database.
_ANSWER_WITHIN_S = 60.0
_AGAIN_AFTER_S = 0.2
# No answer and 0xA7xx, out of resources, are worth another attempt (PS3.4 B.2.3).
NO_ANSWER, _OUT_OF_RESOURCES = -1, 0xA7
_SLICES = 5
# The share of studies that are phantoms which the shipped model reads, and the share whose last image comes late, after
# the result.
_SPINES, _LATE = 0.25, 0.1
_LATE_AFTER_S = (15.0, 40.0)
# The pause of a sender between two studies (seconds): three senders bring as much as two workers can read on two cores
# beside the faults.
_PAUSE_S = (3.0, 9.0)


@dataclass(frozen=True, slots=True)
class Image:
    """One image on its way."""

    uid: str
    study: str
    dataset: Dataset
    data: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the data set."""
        return hashlib.sha256(self.data).hexdigest()


class Ledger:
    """What senders sent and were told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Attempts, and those that were not answered with success, by status.
        self.sent = 0
        self.refused: Counter[int] = Counter()
        # SHA-256 of data sets by SOP Instance UID, and when.
        self.acknowledged: dict[str, str] = {}
        self.moments: dict[str, float] = {}
        self.studies: set[str] = set()

    def note(self, image: Image, status: int) -> None:
        """An attempt at an image and the answer to it."""
        with self._lock:
            self.sent += 1
            if status:
                self.refused[status] += 1
                return
            self.acknowledged.setdefault(image.uid, image.digest)
            self.moments.setdefault(image.uid, time.monotonic())
            self.studies.add(image.study)

    def since(self, moment: float) -> list[str]:
        """UIDs that were first acknowledged after a moment of the monotonic clock."""
        with self._lock:
            return [uid for uid, at in self.moments.items() if at >= moment]

    def refusals(self) -> Counter[int]:
        """So far."""
        with self._lock:
            return self.refused.copy()

    def for_good(self) -> int:
        """How many images were refused for good."""
        return sum(count for status, count in self.refusals().items() if not _may_pass(status))


class Studies:
    """Studies without end: a quarter of them phantoms that the shipped model reads, the others too small for it."""

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._spines = [_phantom(seed) for seed in (0, 2)]
        self._small = [mr_image(number) for number in range(1, _SLICES + 1)]

    def make(self) -> list[Image]:
        """The images of the next study."""
        with self._lock:
            number = next(self._numbers)
            kind = self._source.choice(self._spines) if self._source.random() < _SPINES else self._small
        return [_as(dataset, f"{_ROOT}.{number}", at) for at, dataset in enumerate(kind, start=1)]


def _phantom(seed: int) -> list[Dataset]:
    with tempfile.TemporaryDirectory(prefix="phantom-") as folder:
        config = replace(DEMO_CONFIG, matrix=(256,))
        exam = write_exam(Path(folder), seed, config=config, slices=_SLICES, companions=False)
        return [dcmread(path) for path in exam.files["t2"]]


def _as(dataset: Dataset, study: str, number: int) -> Image:
    """The image in another study, with a patient whose name must be in no log."""
    other = deepcopy(dataset)
    other.StudyInstanceUID, other.SeriesInstanceUID, other.SOPInstanceUID = study, f"{study}.1", f"{study}.1.{number}"
    other.PatientName, other.PatientID = "SECRET^NAME", "SECRET-ID"
    return Image(other.SOPInstanceUID, study, other, encode(other))


class Traffic:
    """Senders at work, each with one study at a time.

    Parameters
    ----------
    pause
        Seconds between two studies of a sender.
    """

    def __init__(
        self, port: int, ledger: Ledger, studies: Studies, *, senders: int, pause: tuple[float, float]
    ) -> None:
        self._port, self._ledger, self._studies, self._pause = port, ledger, studies, pause
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,), daemon=True) for n in range(senders)]

    def start(self) -> None:
        """Send from now on."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin no more studies; those that have begun are sent to their end."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def give_up(self) -> None:
        """Begin no more studies, and wait for none."""
        self._over.set()

    def _send(self, number: int) -> None:
        source = random.Random(number)
        late: list[tuple[float, Image]] = []
        while not self._over.is_set():
            images = self._studies.make()
            if source.random() < _LATE:
                late.append((time.monotonic() + source.uniform(*_LATE_AFTER_S), images.pop()))
            deliver(self._port, images, self._ledger)
            due = [image for at, image in late if at <= time.monotonic()]
            late = [(at, image) for at, image in late if image not in due]
            for image in due:
                deliver(self._port, [image], self._ledger)
            self._over.wait(source.uniform(*self._pause))
        for _, image in late:
            deliver(self._port, [image], self._ledger)


@contextmanager
def traffic(
    port: int, ledger: Ledger, studies: Studies, *, senders: int, pause: tuple[float, float] = _PAUSE_S
) -> Iterator[Traffic]:
    """Senders at work while the block runs."""
    running = Traffic(port, ledger, studies, senders=senders, pause=pause)
    running.start()
    try:
        yield running
    except BaseException:
        running.give_up()
        raise
    running.stop()


def deliver(port: int, images: list[Image], ledger: Ledger, *, within_s: float = 600.0) -> None:
    """Send images until each was acknowledged, or refused for good.

    Raises
    ------
    TimeoutError
        If an image had no final answer in time.
    """
    left = list(images)
    deadline = time.monotonic() + within_s
    while left:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{left[0].uid} was not taken in {within_s:g} s")
        try:
            with wire.connect(port, timeout=_ANSWER_WITHIN_S) as connection:
                connection.sendall(wire.associate(calling="ROUTER"))
                if wire.kind(wire.answer(connection)) == "accepted":
                    _send_on(connection, left, ledger)
        except OSError:
            pass
        if left:
            time.sleep(_AGAIN_AFTER_S)


def _send_on(connection: socket.socket, left: list[Image], ledger: Ledger) -> None:
    """Send on one association. Images with a final answer leave the list; the first without one ends the sending."""
    for message in itertools.count(1):
        if not left:
            connection.sendall(wire.RELEASE)
            wire.answer(connection)
            return
        status = NO_ANSWER
        try:
            connection.sendall(b"".join(wire.store(left[0].dataset, data=left[0].data, message=message)))
            status = wire.status_of(wire.answer(connection))
        finally:
            ledger.note(left[0], status)
        if _may_pass(status):
            return
        left.pop(0)


def _may_pass(status: int) -> bool:
    return status == NO_ANSWER or status >> 8 == _OUT_OF_RESOURCES
