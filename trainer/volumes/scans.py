"""Reads the CT scans of a part for the 3-D variant, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from trainer.datasets import formats
from trainer.datasets.exam import Skipped
from trainer.datasets.tables import DatasetError
from trainer.volumes import csi2014
from trainer.volumes.exam import VolumeExam

_console = Console(stderr=True)


def read_scans(sources: Sequence[str], part: str) -> Iterator[VolumeExam]:
    """The scans of a part (train or test), only one of them in memory; what cannot be used is printed with the reason.

    Raises
    ------
    DatasetError
        If a source is missing or holds no CT volumes.
    """
    for source in sources:
        name, folder = formats.parse(source)
        if name != "csi2014":
            raise DatasetError(f"{folder}: {name} holds no CT volumes, which the 3-D variant (Table V) needs")
        for item in csi2014.read(folder):
            if isinstance(item, Skipped):
                _console.print(f"left out: {item.exam_id}: {item.why}", highlight=False, soft_wrap=True)
            elif item.part == part:
                yield item
