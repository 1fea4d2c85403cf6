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
    """The inputs that an analysis may use: the MR images, or everything if there are none."""
    return [i for i in inputs if i.sop_class_uid in MR_IMAGES] or list(inputs)


def _age(entry: Input) -> tuple[float, str]:
    """A key that sorts by time of receipt, with ties always in the same order."""
    return (entry.received_at.timestamp() if entry.received_at else 0.0, entry.sop_instance_uid)


class Headers:
    """The headers of the inputs, read when they are asked for.

    Parameters
    ----------
    inputs
        Every file that was looked at.
    used
        Those among them that the result is about: they say whose study it is.
    """

    def __init__(self, inputs: Sequence[Input], used: Sequence[Input]) -> None:
        self._paths = {i.sop_instance_uid: i.path for i in inputs}
        self._used = sorted(used, key=_age)

    def of(self, sop_instance_uid: str) -> Dataset | None:
        """The header of an input; None if no input has this UID."""
        path = self._paths.get(sop_instance_uid)
        return None if path is None else read_dataset(path, pixels=False)

    def patient(self, preferred: str) -> Dataset:
        """The header that says whose study it is.

        It is the newest correction's among the files used, else the preferred one, else that of the image that came
        first: a later image of the same study changes nothing.
        """
        corrected = [i.sop_instance_uid for i in self._used if i.version > 1]
        header = (self.of(corrected[-1]) if corrected else None) or self.of(preferred)
        return header if header is not None else self._first_image()

    def _first_image(self) -> Dataset:
        headers = (read_dataset(entry.path, pixels=False) for entry in self._used)
        first = next(headers)
        return first if "Rows" in first else next((h for h in headers if "Rows" in h), first)
