"""Analysed studies that many tests start from: what a worker makes of the same images is made once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest

from dicom_node.analysis import worker
from dicom_node.analysis.analyse import Analysis, StudyReader, analyse, settings_digest
from dicom_node.analysis.inputs import Input
from dicom_node.analysis.products import History
from dicom_node.database.connection import Database
from dicom_node.settings.node import NodeSettings
from tests.fakes.detector import FakeDetector

# By study, inputs and settings; of this process.
_MADE: dict[tuple[object, ...], Analysis] = {}


def analyse_next(database: Database, settings: NodeSettings) -> None:
    """Do the next job, which must be there and the first of its study, as a worker does with the fake detector."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "analyse", _remembered)
        assert worker.Worker(settings, database, FakeDetector()).run_once()


def _remembered(
    detector: StudyReader,
    study_uid: str,
    inputs: Sequence[Input],
    settings: NodeSettings,
    *,
    created: datetime,
    history: History,
) -> Analysis:
    what = tuple((i.sop_instance_uid, i.sha256, i.version) for i in inputs)
    asked = (study_uid, what, settings_digest(settings))
    if asked not in _MADE:
        _MADE[asked] = analyse(detector, study_uid, inputs, settings, created=created, history=history)
    assert not history(_MADE[asked].key), "a study with an earlier result names it in its reports"
    return _MADE[asked]
