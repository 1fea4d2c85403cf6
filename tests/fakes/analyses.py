"""Analysed studies that many tests start from: what a worker makes of the same images is made once."""

from __future__ import annotations

from datetime import datetime

import pytest

from dicom_node.analysis import worker
from dicom_node.analysis.analyse import Analysis, Reading, make
from dicom_node.analysis.products import History, Origin
from dicom_node.database.connection import Database
from dicom_node.settings.node import NodeSettings
from tests.fakes.detector import FakeDetector

# By study, inputs and settings; of this process.
_MADE: dict[tuple[object, ...], Analysis] = {}


def analyse_next(database: Database, settings: NodeSettings) -> None:
    """Do the next job, which must be there and the first of its study, as a worker does with the fake detector."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "make", _remembered)
        assert worker.Worker(settings, database, FakeDetector()).run_once()


def _remembered(
    reading: Reading, settings: NodeSettings, *, created: datetime, history: History, origin: Origin
) -> Analysis:
    assert not history(reading.key.study_uid), "a study with an earlier result names it in its reports"
    asked = (reading.key.study_uid, reading.key.inputs, reading.key.settings_digest, origin)
    if asked not in _MADE:
        _MADE[asked] = make(reading, settings, created=created, history=history, origin=origin)
    return _MADE[asked]
