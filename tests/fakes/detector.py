"""A detector without a network: ten findings on the middle slice of any series that says t2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spineone_core.anatomy import READING_ORDER
from spineone_core.findings import Detection, Finding, ModelIdentity, Reason, Status
from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.selection import Selection
from spineone_core.imaging.series import group_series, load_volume
from spineone_core.imaging.volume import SagittalVolume

MODEL = ModelIdentity(name="fake", version="1", digest="ab" * 32)


@dataclass(frozen=True)
class FakeReading:
    detection: Detection
    volume: SagittalVolume | None
    selection: Selection


class FakeDetector:
    """`before` runs at the start of each reading: tests raise or wait in it."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.identity = MODEL
        self.before = before
        self.readings = 0

    def gpu_memory(self) -> None:
        return None

    def read_study(self, paths: Sequence[Path], *, min_slices: int = 1) -> FakeReading:
        self.before()
        self.readings += 1
        headers, _ = read_headers(paths)
        wanted = [s for s in group_series(headers) if "t2" in s.first.series_description and len(s) >= min_slices]
        if not wanted:
            nothing = Selection(None, Reason.NO_SAGITTAL_T2, "", ())
            return FakeReading(refusal(headers[0].study_uid if headers else ""), None, nothing)
        volume = load_volume(wanted[0])
        selection = Selection(wanted[0], None, "", (), candidates=tuple(wanted))
        return FakeReading(analysed(volume), volume, selection)


def refusal(study_uid: str) -> Detection:
    return Detection(
        study_uid=study_uid,
        series_uid="",
        sop_instance_uid="",
        model=MODEL,
        status=Status.NOT_ANALYSABLE,
        reason=Reason.NO_SAGITTAL_T2,
        reason_detail="no series says t2",
    )


def analysed(volume: SagittalVolume) -> Detection:
    findings = []
    for index, landmark in enumerate(READING_ORDER):
        x, y = 3.0, 0.5 + 0.7 * index
        x_mm, y_mm, z_mm = (float(v) for v in volume.to_patient(volume.middle_index, x, y))
        findings.append(
            Finding(
                structure=landmark.structure,
                level=landmark.level,
                probability=0.1 + 0.08 * index,
                decided=True,
                x=x,
                y=y,
                xyz_mm=(x_mm, y_mm, z_mm),
                localisation_confidence=0.9,
            )
        )
    return Detection(
        study_uid=volume.study_uid,
        series_uid=volume.series_uid,
        sop_instance_uid=volume.sources[volume.middle_index].sop_instance_uid,
        model=MODEL,
        status=Status.ANALYSED,
        findings=tuple(findings),
    )
