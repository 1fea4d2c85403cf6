"""The contrast of a series, judged by its descriptions, its sequence and its times."""

from __future__ import annotations

import re
from dataclasses import dataclass

from spineone_core.imaging.headers import FrameHeader

# Real T2: TE 80-125 ms, TR 1000-5600 ms (3-D sequences 1000); real T1: TE < 30 and TR < 1000.
T2_ECHO_MS = (60.0, 250.0)
T2_REPETITION_MS = 900.0
T1_ECHO_MS, T1_REPETITION_MS = 30.0, 1000.0
STIR_INVERSION_MS = (60.0, 400.0)
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
# "T2" may be glued to these in front (SAGT2, 3DT2, sT2W); "T2" in T20 or PART2 is something else.
_GLUED = r"(?:S|C|A|E|W|H|SAG|SAGITTAL|SG|LSPINE|LUMBAR|TSE|STSE|FSE|SE|FRFSE|SPC|2D|3D|DRIVE|PROPELLER|BLADE)"
_T1 = rf"\b{_GLUED}?T1(?!\d)"
_T2 = rf"\b{_GLUED}?T2(?!\d)"
_PROTON = r"\b(PDW?|PD ?FS|PROTON)\b|\bPDW?_?TSE"
_TIMES = r"\b(\d{3,5})(?:\.\d+)? ?/ ?(\d{1,3})(?:\.\d+)?\b"
_GRADIENT_SEQUENCE = r"^\*?(fl|fi|tfl|tfi|me|qfl|ep|de|swi)\d*d"


@dataclass(frozen=True, slots=True)
class Weighting:
    """What a header says about the contrast.

    ``kind`` is "T2", the name of another contrast or "unknown"; ``source`` names what says so.
    """

    kind: str
    source: str
    fat_suppressed: bool = False


def read_weighting(header: FrameHeader) -> Weighting:
    """The contrast by the description, else by the protocol name, else by AcquisitionContrast, else by TE and TR.

    A description as T2 is not believed where TE and TR are clearly those of T1 or the sequence is a gradient echo.
    """
    description, protocol = plain_text(header.series_description), plain_text(header.protocol_name)
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


def plain_text(value: str) -> str:
    """The text in upper case with single spaces for separators; the signs in T2* and TR/TE stay."""
    return re.sub(r"[^A-Z0-9*/.]+", " ", value.upper()).strip()


def mentions(pattern: str, text: str) -> bool:
    """Whether a `plain_text` holds a match of the pattern."""
    return re.search(pattern, text) is not None


def _named_kind(text: str, header: FrameHeader) -> str | None:
    """The contrast that a text names, or None; T1 is looked for first."""
    for kind, pattern in _OTHER_KINDS:
        if mentions(pattern, text):
            return kind
    t1, t2 = mentions(_T1, text), mentions(_T2, text)
    if t1 and t2:
        # "T1 T2 SAG": only the times can tell; without them it counts as T1.
        return _kind_by_times(header.echo_time, header.repetition_time) or "T1-weighted"
    if t1:
        return "T1-weighted"
    if t2 or mentions(r"\b(STIR|TIRM)\b", text):
        return "T2"
    if mentions(_PROTON, text):
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
    """The contrast by echo and repetition time in ms; zero counts as missing."""
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
    """What a series named T2 really is, judged by sequence name, times and inversion time; None where nothing contradicts."""
    if mentions(_GRADIENT_SEQUENCE, header.sequence_name.lower()):
        return "gradient echo"
    inversion = header.inversion_time or 0.0
    if inversion > STIR_INVERSION_MS[1]:
        return "fluid-attenuated" if inversion > 1400 else "T1-weighted"
    if _kind_by_times(header.echo_time, header.repetition_time) == "T1-weighted":
        return "T1-weighted"
    return None


def _is_fat_suppressed(header: FrameHeader, description: str, protocol: str) -> bool:
    """Judged by keyword, scan option, inversion time (a STIR may be named T2) or sequence name; in-phase Dixon is plain."""
    low, high = STIR_INVERSION_MS
    if header.inversion_time is not None and low <= header.inversion_time <= high:
        return True
    if mentions(_DIXON_PLAIN, description):
        return False
    if mentions(r"^\*?tir", header.sequence_name.lower()) or mentions(
        r"\b(FS|FATSAT|FAT ?SAT\w*)\b", plain_text(header.scan_options)
    ):
        return True
    return mentions(_FAT_SUPPRESSED, description or protocol)
