"""What an analysis takes from a study: its files and their headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset

from spineone_core.imaging.files import read_dataset
from spineone_core.imaging.headers import MR_IMAGES


@dataclass(frozen=True, slots=True)
class Input:
    """One file of a study."""

    path: Path
    sop_instance_uid: str
    sop_class_uid: str
    sha256: str
    # Counts from 1; a later version corrects the header.
    version: int = 1
    received_at: datetime | None = None


def used_inputs(inputs: Sequence[Input]) -> list[Input]:
    """The inputs that a result depends on: the MR images, or everything if there are none."""
    return [i for i in inputs if i.sop_class_uid in MR_IMAGES] or list(inputs)


def _age(entry: Input) -> tuple[float, str]:
    """A key that sorts by time of receipt, with ties always in the same order."""
    return (entry.received_at.timestamp() if entry.received_at else 0.0, entry.sop_instance_uid)


class Headers:
    """The headers of the inputs, read when they are asked for."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self._paths = {i.sop_instance_uid: i.path for i in inputs}
        corrected = [i for i in inputs if i.version > 1]
        newest = max(corrected, key=_age, default=None)
        self._corrected = newest.sop_instance_uid if newest is not None else ""

    def of(self, sop_instance_uid: str) -> Dataset | None:
        """The header of an input; None if no input has this UID."""
        path = self._paths.get(sop_instance_uid)
        return None if path is None else read_dataset(path, pixels=False)

    def patient(self, preferred: str) -> Dataset:
        """The header that says whose study it is: the newest correction's, else the preferred one, else an image's."""
        header = self.of(self._corrected) or self.of(preferred)
        return header if header is not None else self._first_image()

    def _first_image(self) -> Dataset:
        headers = (read_dataset(path, pixels=False) for path in self._paths.values())
        first = next(headers)
        return first if "Rows" in first else next((h for h in headers if "Rows" in h), first)
