"""Which series of a study to read: the sagittal T2 of the lumbar spine, and why each other one was left.

The rules come from real headers: descriptions and protocol names are free text of a hundred sites, TE and TR are absent
in some files, BodyPartExamined is empty or wrong in many (so it excludes nothing). Explanations never quote free text,
which may hold a patient's name; they name the keyword's meaning only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from spineone_core.findings import Reason
from spineone_core.imaging.series import FrameHeader, Series, SeriesError, order_frames

# A plane is sagittal where its normal's x exceeds this (up to 37 degrees of obliquity, as with scoliosis).
SAGITTAL_COSINE = 0.8
# Real T2: TE 80-125 ms, TR 1000-5600 ms (3-D sequences 1000); real T1: TE < 30 and TR < 1000.
T2_ECHO_MS = (60.0, 250.0)
T2_REPETITION_MS = 900.0
T1_ECHO_MS, T1_REPETITION_MS = 30.0, 1000.0
STIR_INVERSION_MS = (60.0, 400.0)
# More slices than these make no series better; a field of view outside these is no single lumbar view.
ENOUGH_SLICES = 11
USUAL_VIEW_MM = (180.0, 450.0)
# A localiser: so few slices, so far apart.
LOCALISER_SLICES, LOCALISER_GAP_MM = 5, 12.0

_MR_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR
    "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy converted enhanced MR
}

# Each keyword is a whole word (or a marked beginning) of the text with its separators turned into spaces:
# "FS" is not in "FSE", "IR" not in "FIRST", "LOC" not in "BLOCK".
_LOCALISER = (
    r"\b(LOC|LOCS|LOCA|LOCALI[SZ]\w*|\w*SCOUT|SURVEY|PLANNING|PLAN|PLANSCAN|PILOT|3PL\w*|3 ?PLANE|TRI ?PLANE)\b"
)
_OTHER_KINDS: tuple[tuple[str, str], ...] = (
    ("T2*-weighted", r"T2 ?(\*|STAR\b)"),
    ("fluid-attenuated", r"FLAIR|\bDARK ?FL"),
    ("myelography", r"MYELO|\bMRM\b"),
    ("diffusion", r"\b(DWI?|DTI|ADC|E?EPI|TRACEW?|DIFF|DIFFUSION|RESOLVE|B\d{3,4})\b"),
    (
        "gradient echo",
        r"\b(GRE|GE3D|FFE|[MBS]FFE|B?TFE|MEDIC|MERGE|CISS|VIBE|SWIP?|DESS|EFGRE\w*|FL[23]D\w*|GRADIENT)\b"
        r"|FLASH|FISP|TRUFI|SPGR|FIESTA",
    ),
    ("a parameter map", r"\bT2 ?MAP|\bMAPPING\b|\bMAP\b"),
    ("perfusion or flow", r"\b(DCE|DSC|PERF\w*|FLOW|PHASE ?CONTRAST|MRA|TOF|CINE)\b"),
    ("a reformatted or derived picture", r"\b(MPR|MIP|MINIP|REFORMAT\w*|SUB|SUBTRACTION|SCREEN ?SAVE|VRT)\b"),
)
_FAT_SUPPRESSED = (
    r"\b(STIR|TIRM|SPAIR|SPIR|IR|FS|FATSAT|FAT ?SAT\w*|FAT ?SUP\w*|FATSUP\w*|SPECIAL|CHESS|WATER|IDEAL|WFI|DIXON|MDIXON)\b"
    r"|T2W?FS\b|TSEFS\b|FSEFS\b"
)
_DIXON_PLAIN = r"\b(DIXON|MDIXON|IDEAL)\b.*\b(IN|INPHASE|IN ?PHASE)\b"
_LUMBAR = r"LUMB|\bL ?SP(INE)?\b|\bLSP\w*|\b(LWS|LWK|LS|LSS|LENDEN\w*|LOMB\w*)\b"
_OTHER_REGION = (
    r"CERVI|\bC ?SP(INE)?\b|\b(HWS|HWK|NECK|BRAIN|HEAD|KOPF|SKULL|CRANI\w*|KNEE|KNIE|HIP|SHOULDER|ANKLE|WRIST|ELBOW|LIVER"
    r"|PROSTATE|HEART|BREAST|PITUITARY|ORBIT\w*)\b|THORA[CK]|\bT ?SP(INE)?\b|\b(BWS|BWK|DORSAL)\b"
)
_SIDE_REGION = r"SACR|\b(ISG|SIJ|SI ?JOINTS?|COCCYX|PELVIS|WHOLE|TOTAL|GANZ\w*|COMPOSED|TL ?SPINE)\b"

# "T2" may be glued to these in front (SAGT2, 3DT2, sT2W); "T2" in T20 or PART2 is something else.
_GLUED = r"(?:S|C|A|E|W|H|SAG|SAGITTAL|SG|LSPINE|LUMBAR|TSE|STSE|FSE|SE|FRFSE|SPC|2D|3D|DRIVE|PROPELLER|BLADE)"
_T1 = rf"\b{_GLUED}?T1(?!\d)"
_T2 = rf"\b{_GLUED}?T2(?!\d)"
_PROTON = r"\b(PDW?|PD ?FS|PROTON)\b|\bPDW?_?TSE"
_TIMES = r"\b(\d{3,5})(?:\.\d+)? ?/ ?(\d{1,3})(?:\.\d+)?\b"
_GRADIENT_SEQUENCE = r"^\*?(fl|fi|tfl|tfi|me|qfl|ep|de|swi)\d*d"


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome: a series, or a coded reason why none.

    Parameters
    ----------
    chosen, reason
        Exactly one of them is set. ``reason`` is ``no_images``, ``no_sagittal_t2`` or ``too_few_slices``.
    detail
        One sentence for a person; holds no free text of the files.
    explanations
        One line for each series, in the order given.
    warnings
        What a reader of the result should know of the chosen series.
    """

    chosen: Series | None
    reason: Reason | None
    detail: str
    explanations: tuple[str, ...]
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Weighting:
    """What a header says of the contrast: ``kind`` is "T2", another one's name or "unknown"; ``source`` says from what."""

    kind: str
    source: str
    fat_suppressed: bool = False


@dataclass(frozen=True, slots=True)
class _Candidate:
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
        All series of one study, as `dicom_series.group_series` gives them.
    min_slices
        A series with fewer slices at distinct positions is refused.

    Returns
    -------
    Selection
        Plain T2 is preferred to fat-suppressed, a lumbar description to a silent one, contrast from the description to
        contrast from AcquisitionContrast to contrast from TE and TR, then more slices, then finer pixels, then the later
        series (repeats replace what moved).

    Raises
    ------
    ValueError
        If ``min_slices`` is less than 1.
    """
    if min_slices < 1:
        raise ValueError(f"min_slices {min_slices} must be at least 1")
    candidates = [_judge(one, series) for one in series]
    usable = [c for c in candidates if c.excluded is None]
    best = max(usable, key=lambda c: _rank(c, min_slices), default=None)
    if best is None:
        return _none_found(candidates)
    if best.slices < min_slices:
        detail = f"the best sagittal T2 series has {best.slices} slices; {min_slices} are needed"
        lines = tuple(_line(c, f"not chosen: {c.excluded or 'too few slices'}") for c in candidates)
        return Selection(None, Reason.TOO_FEW_SLICES, detail, lines)
    lines = tuple(_line(c, _outcome(c, best, min_slices)) for c in candidates)
    return Selection(best.series, None, _describe(best), lines, _warnings(best))


def _none_found(candidates: list[_Candidate]) -> Selection:
    lines = tuple(_line(c, f"not chosen: {c.excluded}") for c in candidates)
    if not any(_is_mr_image(c.series.first) for c in candidates):
        return Selection(None, Reason.NO_IMAGES, "no MR image among the files", lines)
    counts = Counter(c.excluded for c in candidates)
    summary = ", ".join(f"{number} {why}" for why, number in counts.most_common())
    return Selection(None, Reason.NO_SAGITTAL_T2, f"{len(candidates)} series: {summary}", lines)


# ---------------------------------------------------------------- one series


def _judge(series: Series, study: Sequence[Series]) -> _Candidate:
    weighting = read_weighting(series.first)
    slices, step, placed = _stack(series)
    excluded = _exclusion(series, weighting, slices, step, study)
    return _Candidate(series, excluded, weighting, slices, step, placed)


def _exclusion(series: Series, weighting: Weighting, slices: int, step: float, study: Sequence[Series]) -> str | None:
    """Why a series cannot be the one, or None."""
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
    if _has(_OTHER_REGION, _text(first.series_description)) and not _has(_LUMBAR, _text(first.series_description)):
        return "described as another region"
    return None if weighting.kind == "T2" else _contrast_text(weighting)


def _contrast_text(weighting: Weighting) -> str:
    return "of unknown contrast" if weighting.kind == "unknown" else f"{weighting.kind} by {weighting.source}"


def _is_mr_image(header: FrameHeader) -> bool:
    """MR by modality and by SOP class; either may be empty, both may not."""
    if header.modality.upper() not in ("MR", "") or (header.sop_class_uid and header.sop_class_uid not in _MR_CLASSES):
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
    except SeriesError:
        return len(series), 0.0, False
    normal = frames[0].normal
    places = [float(np.dot(f.position, normal)) for f in frames]  # type: ignore[arg-type]
    return len(frames), float(max(np.diff(places), default=0.0)), True


def _is_localiser(series: Series, slices: int, step: float, study: Sequence[Series]) -> bool:
    first = series.first
    text = " ".join((_text(first.series_description), _text(first.protocol_name)))
    if _has(_LOCALISER, text) or (1 < slices <= LOCALISER_SLICES and step > LOCALISER_GAP_MM):
        return True
    siblings = [s for s in study if s.uid == series.uid and s.uid and len(s) <= LOCALISER_SLICES]
    planes = {plane_of(s.first) for s in siblings}
    return slices <= LOCALISER_SLICES and len(planes - {"unknown"}) >= 3


# ---------------------------------------------------------------- contrast


def read_weighting(header: FrameHeader) -> Weighting:
    """Contrast from the description, else the protocol name, else AcquisitionContrast, else TE and TR.

    A description of T2 is not believed where TE and TR are plainly those of T1 or the sequence is a gradient echo.
    """
    description, protocol = _text(header.series_description), _text(header.protocol_name)
    suppressed = _is_fat_suppressed(header, description, protocol)
    kind, source = _named_kind(description, header), "description"
    if kind is None:
        kind, source = _named_kind(protocol, header), "protocol name"
    if kind is None:
        kind, source = _acquisition_kind(header.acquisition_contrast), "AcquisitionContrast"
    if kind is None:
        kind, source = _kind_by_times(header.echo_time, header.repetition_time), "TE and TR"
    if kind == "T2" and (doubt := _contradiction(header)):
        kind, source = doubt, "its sequence parameters"
    return Weighting(kind or "unknown", source, suppressed)


def _text(value: str) -> str:
    """Upper case, separators as single spaces; the signs of T2* and of TR/TE stay."""
    return re.sub(r"[^A-Z0-9*/.]+", " ", value.upper()).strip()


def _has(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


def _named_kind(text: str, header: FrameHeader) -> str | None:
    """The contrast a text names, or None where it names none; T1 is looked for first."""
    for kind, pattern in _OTHER_KINDS:
        if _has(pattern, text):
            return kind
    t1, t2 = _has(_T1, text), _has(_T2, text)
    if t1 and t2:
        # "T1 T2 SAG": only the times can tell; if they are silent it stays a T1.
        return _kind_by_times(header.echo_time, header.repetition_time) or "T1-weighted"
    if t1:
        return "T1-weighted"
    if t2 or _has(r"\b(STIR|TIRM)\b", text):
        return "T2"
    if _has(_PROTON, text):
        return "proton density"
    times = re.search(_TIMES, text)
    return _kind_by_times(float(times[2]), float(times[1])) if times else None


def _acquisition_kind(value: str) -> str | None:
    known = {
        "T2": "T2",
        "STIR": "T2",
        "T1": "T1-weighted",
        "PROTON_DENSITY": "proton density",
        "DIFFUSION": "diffusion",
        "FLUID_ATTENUATED": "fluid-attenuated",
        "T2_STAR": "T2*-weighted",
        "FLOW_ENCODED": "perfusion or flow",
        "PERFUSION": "perfusion or flow",
    }
    return known.get(value.strip().upper())


def _kind_by_times(echo: float | None, repetition: float | None) -> str | None:
    """Contrast by echo and repetition time in ms; zero counts as absent."""
    if not echo or echo < 0:
        return None
    long_repetition = repetition is None or repetition <= 0 or repetition >= T2_REPETITION_MS
    if T2_ECHO_MS[0] <= echo <= T2_ECHO_MS[1] and long_repetition:
        return "T2"
    if echo > T2_ECHO_MS[1]:
        return "with too long an echo time"
    if echo < T1_ECHO_MS and repetition and 0 < repetition < T1_REPETITION_MS:
        return "T1-weighted"
    if echo < T2_ECHO_MS[0] and repetition and repetition >= T1_REPETITION_MS:
        return "proton density"
    return None


def _contradiction(header: FrameHeader) -> str | None:
    """What a series named T2 really is by its sequence name, times and inversion time, or None."""
    if _has(_GRADIENT_SEQUENCE, header.sequence_name.lower()):
        return "gradient echo"
    inversion = header.inversion_time or 0.0
    if inversion > STIR_INVERSION_MS[1]:
        return "fluid-attenuated" if inversion > 1400 else "T1-weighted"
    if _kind_by_times(header.echo_time, header.repetition_time) == "T1-weighted":
        return "T1-weighted"
    return None


def _is_fat_suppressed(header: FrameHeader, description: str, protocol: str) -> bool:
    """By keyword, scan option, inversion time (a STIR may be named T2) or sequence name; Dixon in phase is plain."""
    low, high = STIR_INVERSION_MS
    if header.inversion_time is not None and low <= header.inversion_time <= high:
        return True
    if _has(_DIXON_PLAIN, description):
        return False
    if _has(r"^\*?tir", header.sequence_name.lower()) or _has(
        r"\b(FS|FATSAT|FAT ?SAT\w*)\b", _text(header.scan_options)
    ):
        return True
    return _has(_FAT_SUPPRESSED, description or protocol)


# ---------------------------------------------------------------- rank and words


def _rank(candidate: _Candidate, min_slices: int) -> tuple[object, ...]:
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
    text = " ".join((_text(header.series_description), _text(header.protocol_name)))
    if _has(_LUMBAR, text):
        return 2
    return 0 if _has(_SIDE_REGION, text) or _has(_OTHER_REGION, text) else 1


def _describe(candidate: _Candidate) -> str:
    fat = "fat-suppressed " if candidate.weighting.fat_suppressed else ""
    slices = "1 slice" if candidate.slices == 1 else f"{candidate.slices} slices"
    return f"sagittal, {fat}T2 by {candidate.weighting.source}, {slices}"


def _outcome(candidate: _Candidate, best: _Candidate, min_slices: int) -> str:
    if candidate is best:
        return f"chosen: {_describe(candidate)}"
    if candidate.excluded:
        return f"not chosen: {candidate.excluded}"
    return f"not chosen: {_describe(candidate)}, but {_lost(candidate, best, min_slices)}"


def _lost(candidate: _Candidate, best: _Candidate, min_slices: int) -> str:
    """In what the chosen series is better."""
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


def _line(candidate: _Candidate, outcome: str) -> str:
    first = candidate.series.first
    number = "without number" if first.series_number is None else str(first.series_number)
    return f"series {number} (…{first.series_uid[-12:]}): {outcome}"


def _warnings(candidate: _Candidate) -> tuple[str, ...]:
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
