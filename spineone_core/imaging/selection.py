"""Which series of a study to read, the sagittal T2 of the lumbar spine, and why each other series was not chosen.

The rules come from real headers: descriptions and protocol names are free text from a hundred sites, TE and TR are missing
in some files, BodyPartExamined is empty or wrong in many (so it excludes nothing). Explanations never quote free text,
which may hold a patient's name; they only say what a keyword means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from spineone_core.findings import NotAnalysable, Reason
from spineone_core.imaging.headers import MR_IMAGES, FrameHeader
from spineone_core.imaging.series import Series, order_frames
from spineone_core.imaging.weighting import Weighting, mentions, plain_text, read_weighting

# A plane is sagittal where its normal's x exceeds this (up to 37 degrees of obliquity, as with scoliosis).
SAGITTAL_COSINE = 0.8
# More slices than this make no series better. A field of view outside this range is not a single lumbar view.
ENOUGH_SLICES = 11
USUAL_VIEW_MM = (180.0, 450.0)
# A series is a localiser if it has at most so many slices, more than so far apart.
LOCALISER_SLICES, LOCALISER_GAP_MM = 5, 12.0
# Each keyword is a whole word (or a marked beginning) of the text with its separators turned into spaces:
# "FS" is not in "FSE", "IR" not in "FIRST", "LOC" not in "BLOCK".
_LOCALISER = (
    r"\b(LOC|LOCS|LOCA|LOCALI[SZ]\w*|\w*SCOUT|SURVEY|PLANNING|PLAN|PLANSCAN|PILOT|3PL\w*|3 ?PLANE|TRI ?PLANE)\b"
)
_LUMBAR = r"LUMB|\bL ?SP(INE)?\b|\bLSP\w*|\b(LWS|LWK|LS|LSS|LENDEN\w*|LOMB\w*)\b"
_OTHER_REGION = (
    r"CERVI|\bC ?SP(INE)?\b|\b(HWS|HWK|NECK|BRAIN|HEAD|KOPF|SKULL|CRANI\w*|KNEE|KNIE|HIP|SHOULDER|ANKLE|WRIST|ELBOW|LIVER"
    r"|PROSTATE|HEART|BREAST|PITUITARY|ORBIT\w*)\b|THORA[CK]|\bT ?SP(INE)?\b|\b(BWS|BWK|DORSAL)\b"
)
_SIDE_REGION = r"SACR|\b(ISG|SIJ|SI ?JOINTS?|COCCYX|PELVIS|WHOLE|TOTAL|GANZ\w*|COMPOSED|TL ?SPINE)\b"


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome: the chosen series, or a coded reason why there is none.

    Parameters
    ----------
    chosen, reason
        Exactly one of them is set. ``reason`` is ``no_images``, ``no_sagittal_t2`` or ``too_few_slices``.
    detail
        One sentence for a person, without free text from the files.
    explanations
        One line for each series, in the order given.
    warnings
        What a reader of the result should know about the chosen series.
    candidates
        Every series that the rules accept, the best first; empty where none is chosen.
    """

    chosen: Series | None
    reason: Reason | None
    detail: str
    explanations: tuple[str, ...]
    warnings: tuple[str, ...] = field(default=())
    candidates: tuple[Series, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _JudgedSeries:
    series: Series
    excluded: str | None
    weighting: Weighting
    slices: int
    step: float
    placed: bool


def select_series(series: Sequence[Series], *, min_slices: int = 1) -> Selection:
    """Choose the sagittal T2 series of the lumbar spine.

    Parameters
    ----------
    series
        All series of a study, as `spineone_core.imaging.series.group_series` gives them.
    min_slices
        A series with fewer slices at distinct positions is refused.

    Returns
    -------
    Selection
        In this order, plain T2 is preferred to fat-suppressed, a lumbar description to none, contrast from the description to
        contrast from AcquisitionContrast and that to contrast from TE and TR, more slices to fewer, finer pixels to coarser,
        and the later series to the earlier one (a series is repeated where the patient moved).

    Raises
    ------
    ValueError
        If ``min_slices`` is less than 1.
    """
    if min_slices < 1:
        raise ValueError(f"min_slices {min_slices} must be at least 1")
    candidates = [_judge(one, series) for one in series]
    usable = sorted((c for c in candidates if c.excluded is None), key=lambda c: _rank(c, min_slices), reverse=True)
    if not usable:
        return _none_found(candidates)
    best = usable[0]
    if best.slices < min_slices:
        detail = f"the best sagittal T2 series has {best.slices} slices; {min_slices} are needed"
        lines = tuple(_line(c, f"not chosen: {c.excluded or 'too few slices'}") for c in candidates)
        return Selection(None, Reason.TOO_FEW_SLICES, detail, lines)
    lines = tuple(_line(c, _outcome(c, best, min_slices)) for c in candidates)
    accepted = tuple(c.series for c in usable if c.slices >= min_slices)
    return Selection(best.series, None, _describe(best), lines, _warnings(best), accepted)


def _none_found(candidates: list[_JudgedSeries]) -> Selection:
    lines = tuple(_line(c, f"not chosen: {c.excluded}") for c in candidates)
    if not any(_is_mr_image(c.series.first) for c in candidates):
        return Selection(None, Reason.NO_IMAGES, "no MR image among the files", lines)
    counts = Counter(c.excluded for c in candidates)
    summary = ", ".join(f"{number} {why}" for why, number in counts.most_common())
    return Selection(None, Reason.NO_SAGITTAL_T2, f"{len(candidates)} series: {summary}", lines)


# ---------------------------------------------------------------- one series


def _judge(series: Series, study: Sequence[Series]) -> _JudgedSeries:
    weighting = read_weighting(series.first)
    slices, step, placed = _stack(series)
    excluded = _exclusion(series, weighting, slices, step, study)
    return _JudgedSeries(series, excluded, weighting, slices, step, placed)


def _exclusion(series: Series, weighting: Weighting, slices: int, step: float, study: Sequence[Series]) -> str | None:
    """Why a series cannot be chosen, or None."""
    first = series.first
    if not _is_mr_image(first):
        return "not an MR image"
    if kind := _picture_kind(first):
        return kind
    if first.orientation is None:
        return "without image orientation"
    if plane_of(first) != "sagittal":
        return plane_of(first)
    if _is_localiser(series, slices, step, study):
        return "a localiser"
    if mentions(_OTHER_REGION, plain_text(first.series_description)) and not mentions(
        _LUMBAR, plain_text(first.series_description)
    ):
        return "described as another region"
    if series.fault and weighting.kind == "T2":
        return series.fault
    return None if weighting.kind == "T2" else _contrast_text(weighting)


def _contrast_text(weighting: Weighting) -> str:
    return "of unknown contrast" if weighting.kind == "unknown" else f"{weighting.kind} by {weighting.source}"


def _is_mr_image(header: FrameHeader) -> bool:
    """Whether modality and SOP class say MR; one of them may be empty, but not both."""
    if header.modality.upper() not in ("MR", "") or (header.sop_class_uid and header.sop_class_uid not in MR_IMAGES):
        return False
    return bool(header.modality or header.sop_class_uid)


def _picture_kind(header: FrameHeader) -> str | None:
    values = {value.strip().upper() for value in header.image_type}
    if "LOCALIZER" in values:
        return "a localiser"
    if values & {"MPR", "REFORMATTED", "PROJECTION IMAGE", "MIP", "MAX_IP", "MIN_IP", "SUBTRACTION"}:
        return "a reformatted or derived picture"
    if [v.strip().upper() for v in header.image_type[:2]] == ["DERIVED", "SECONDARY"]:
        return "a derived secondary picture"
    return None


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
    text = " ".join((plain_text(first.series_description), plain_text(first.protocol_name)))
    if mentions(_LOCALISER, text) or (1 < slices <= LOCALISER_SLICES and step > LOCALISER_GAP_MM):
        return True
    siblings = [s for s in study if s.uid == series.uid and s.uid and len(s) <= LOCALISER_SLICES]
    planes = {plane_of(s.first) for s in siblings}
    return slices <= LOCALISER_SLICES and len(planes - {"unknown"}) >= 3


# ---------------------------------------------------------------- rank and words


def _rank(candidate: _JudgedSeries, min_slices: int) -> tuple[object, ...]:
    """Greater is better."""
    first = candidate.series.first
    rows_mm, columns_mm = first.pixel_spacing or (0.0, 0.0)
    view = first.rows * rows_mm
    finest = -max(rows_mm, columns_mm) if rows_mm else -99.0
    return (
        candidate.placed,
        candidate.slices >= min_slices,
        not candidate.weighting.fat_suppressed,
        _region(first),
        USUAL_VIEW_MM[0] <= view <= USUAL_VIEW_MM[1],
        {"description": 3, "protocol name": 2, "AcquisitionContrast": 1}.get(candidate.weighting.source, 0),
        min(candidate.slices, ENOUGH_SLICES),
        round(finest, 2),
        candidate.slices,
        first.series_number or 0,
        first.series_uid,
    )


def _region(header: FrameHeader) -> int:
    text = " ".join((plain_text(header.series_description), plain_text(header.protocol_name)))
    if mentions(_LUMBAR, text):
        return 2
    return 0 if mentions(_SIDE_REGION, text) or mentions(_OTHER_REGION, text) else 1


def _describe(candidate: _JudgedSeries) -> str:
    fat = "fat-suppressed " if candidate.weighting.fat_suppressed else ""
    slices = "1 slice" if candidate.slices == 1 else f"{candidate.slices} slices"
    return f"sagittal, {fat}T2 by {candidate.weighting.source}, {slices}"


def _outcome(candidate: _JudgedSeries, best: _JudgedSeries, min_slices: int) -> str:
    if candidate is best:
        return f"chosen: {_describe(candidate)}"
    if candidate.excluded:
        return f"not chosen: {candidate.excluded}"
    return f"not chosen: {_describe(candidate)}, but {_lost(candidate, best, min_slices)}"


def _lost(candidate: _JudgedSeries, best: _JudgedSeries, min_slices: int) -> str:
    """In what respect the chosen series is better."""
    reasons = (
        "its geometry is incomplete",
        "it has too few slices",
        "a series without fat suppression is preferred",
        "another is described as lumbar",
        "its field of view is unusual",
        "another's contrast is surer",
        "another has more slices",
        "another has finer pixels",
        "another has more slices",
        "a later series is preferred",
        "another came first",
    )
    pairs = zip(_rank(candidate, min_slices), _rank(best, min_slices), reasons, strict=True)
    return next((why for mine, theirs, why in pairs if mine != theirs), "another came first")


def _line(candidate: _JudgedSeries, outcome: str) -> str:
    first = candidate.series.first
    number = "without number" if first.series_number is None else str(first.series_number)
    return f"series {number} (…{first.series_uid[-12:]}): {outcome}"


def _warnings(candidate: _JudgedSeries) -> tuple[str, ...]:
    first = candidate.series.first
    warnings = []
    if candidate.slices == 1:
        warnings.append("only one slice: side-to-side information is missing")
    if candidate.weighting.fat_suppressed:
        warnings.append("the series is fat-suppressed; the model was made for plain T2")
    if _region(first) == 0:
        warnings.append("the description names another or a larger region than the lumbar spine")
    if candidate.weighting.source not in ("description", "protocol name"):
        warnings.append(f"no description says T2; taken as T2 by {candidate.weighting.source}")
    return tuple(warnings)
