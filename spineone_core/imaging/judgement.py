"""What one series is taken for: picture, plane, contrast, region, and whether it may be read at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spineone_core.findings import NotAnalysable
from spineone_core.imaging.fat import Fat
from spineone_core.imaging.headers import MR_IMAGES, FrameHeader
from spineone_core.imaging.picture_kinds import is_derived_secondary, picture_kind
from spineone_core.imaging.regions import NamedRegion, read_region
from spineone_core.imaging.sequence_facts import read_facts
from spineone_core.imaging.series import Series, order_frames
from spineone_core.imaging.stations import NEIGHBOUR_MM
from spineone_core.imaging.weighting import Weighting, read_weighting
from spineone_core.imaging.words import mentions, plain_text

# A plane is sagittal where its normal's x exceeds this (up to 37 degrees of obliquity, as with scoliosis).
SAGITTAL_COSINE = 0.8
# A series is a localiser if it has at most so many slices, more than so far apart.
LOCALISER_SLICES, LOCALISER_GAP_MM = 5, 12.0
# A turbo spin echo with more slices than a localiser, and pixels (mm) and steps as fine as these, is none, whatever its name.
DIAGNOSTIC_PIXEL_MM, DIAGNOSTIC_STEP_MM = 1.0, 7.0
# Each keyword is a whole word (or a marked beginning) of the text with its separators turned into spaces:
# "FS" is not in "FSE", "IR" not in "FIRST", "LOC" not in "BLOCK".
_LOCALISER = (
    r"\b(LOC|LOCS|LOCA|LOCALI[SZ]\w*|\w*SCOUT|SURVEY|PLANNING|PLAN|PLANSCAN|PILOT|3PL\w*|3 ?PLANE|TRI ?PLANE)\b"
    r"|定位|位置決め|ПЛАНИР"
)


@dataclass(frozen=True, slots=True)
class JudgedSeries:
    """A series and what its headers say.

    Parameters
    ----------
    excluded
        Why it is not read, None where the rules accept it.
    plane
        "sagittal", "coronal", "axial", "oblique" or "unknown".
    slices, step_mm
        Number of slices at distinct positions, and the largest step between them.
    placed
        Whether the geometry is complete.
    station, above_mm
        Its station among the accepted series of its frame of reference, from the lowest up, and its height over that.
    """

    series: Series
    excluded: str | None
    plane: str
    weighting: Weighting
    region: NamedRegion
    slices: int
    step_mm: float
    placed: bool
    station: int = 0
    above_mm: float = 0.0

    @property
    def derived(self) -> bool:
        """Whether it is marked DERIVED\\SECONDARY."""
        return is_derived_secondary(self.series.first)

    @property
    def maybe_lumbar(self) -> bool:
        """Whether neither names nor its height speak against the lumbar spine."""
        return not self.region.against and (self.region.rank == 2 or self.above_mm <= NEIGHBOUR_MM)

    @property
    def label(self) -> str:
        """Number and end of the UID, without free text."""
        first = self.series.first
        number = "without number" if first.series_number is None else str(first.series_number)
        return f"series {number} (…{first.series_uid[-12:]})"

    def describe(self) -> str:
        """Plane, contrast and slices in a few words."""
        fat = "fat-suppressed " if self.weighting.fat_suppressed else ""
        slices = "1 slice" if self.slices == 1 else f"{self.slices} slices"
        return f"sagittal, {fat}T2 by {self.weighting.source}, {slices}"


def judge(series: Series, study: Sequence[Series]) -> JudgedSeries:
    """What a series is taken for; the other series of its study tell a localiser of three planes."""
    weighting, region = read_weighting(series.first), read_region(series.first)
    slices, step, placed = _stack(series)
    excluded = _exclusion(series, weighting, region, slices, step, study)
    return JudgedSeries(series, excluded, plane_of(series.first), weighting, region, slices, step, placed)


def _exclusion(
    series: Series, weighting: Weighting, region: NamedRegion, slices: int, step: float, study: Sequence[Series]
) -> str | None:
    """Why a series cannot be chosen, or None."""
    first = series.first
    if not is_mr_image(first):
        return "not an MR image"
    if kind := picture_kind(first):
        return kind
    if first.orientation is None:
        return "without image orientation"
    if plane_of(first) != "sagittal":
        return plane_of(first)
    if _is_localiser(series, slices, step, study):
        return "a localiser"
    if region.excluded:
        return "described as another region"
    if weighting.kind == "T2" and weighting.fat in (Fat.ONLY, Fat.OPPOSED):
        return f"{weighting.fat.value} of a Dixon series"
    if series.fault and weighting.kind == "T2":
        return series.fault
    return None if weighting.kind == "T2" else _contrast_text(weighting)


def _contrast_text(weighting: Weighting) -> str:
    return "of unknown contrast" if weighting.kind == "unknown" else f"{weighting.kind} by {weighting.source}"


def is_mr_image(header: FrameHeader) -> bool:
    """Whether modality and SOP class say MR; one of them may be empty, but not both."""
    if header.modality.upper() not in ("MR", "") or (header.sop_class_uid and header.sop_class_uid not in MR_IMAGES):
        return False
    return bool(header.modality or header.sop_class_uid)


def plane_of(header: FrameHeader) -> str:
    """ "sagittal", "coronal", "axial", "oblique" or "unknown", from the normal of the image plane."""
    normal = header.normal
    if normal is None or not np.isfinite(normal).all() or np.linalg.norm(normal) < 0.5:
        return "unknown"
    cosines = np.abs(normal) / np.linalg.norm(normal)
    axis = int(np.argmax(cosines))
    return ("sagittal", "coronal", "axial")[axis] if cosines[axis] > SAGITTAL_COSINE else "oblique"


def _stack(series: Series) -> tuple[int, float, bool]:
    """Number of slices at distinct positions, largest step in mm, and whether the geometry is complete."""
    try:
        frames, _ = order_frames(series)
    except NotAnalysable:
        return len(series), 0.0, False
    normal = frames[0].normal
    places = [float(np.dot(f.position, normal)) for f in frames]  # type: ignore[arg-type]
    return len(frames), float(max(np.diff(places), default=0.0)), True


def _is_localiser(series: Series, slices: int, step: float, study: Sequence[Series]) -> bool:
    first = series.first
    if 1 < slices <= LOCALISER_SLICES and step > LOCALISER_GAP_MM:
        return True
    text = " ".join((plain_text(first.series_description), plain_text(first.protocol_name)))
    if mentions(_LOCALISER, text) and not _is_diagnostic(first, slices, step):
        return True
    siblings = [s for s in study if s.uid == series.uid and s.uid and len(s) <= LOCALISER_SLICES]
    planes = {plane_of(s.first) for s in siblings}
    return slices <= LOCALISER_SLICES and len(planes - {"unknown"}) >= 3


def _is_diagnostic(header: FrameHeader, slices: int, step: float) -> bool:
    """Whether the facts are those of no localiser: a turbo spin echo of many thin slices and fine pixels."""
    fine = header.pixel_spacing is not None and max(header.pixel_spacing) <= DIAGNOSTIC_PIXEL_MM
    return fine and slices > LOCALISER_SLICES and step <= DIAGNOSTIC_STEP_MM and read_facts(header).turbo
