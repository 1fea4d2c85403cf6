"""What a picture is besides an acquired magnitude image: maps, projections, phase, copies with marks. These are never read.

ImageType (PS3.3 C.7.6.1.1.2) or FrameType (C.8.13.3.1), ComplexImageComponent and BurnedInAnnotation say so.
"""

from __future__ import annotations

from spineone_core.imaging.headers import FrameHeader
from spineone_core.imaging.words import mentions, plain_text

# A slice as thick as this (mm) is a slab through everything, as of a myelogram.
SLAB_MM = 15.0
# Values of ImageType and FrameType that decide alone, by what they mean.
IMAGE_CODES: tuple[tuple[str, frozenset[str]], ...] = (
    ("a localiser", frozenset({"LOCALIZER"})),
    (
        "a reformatted or derived picture",
        frozenset({
            "MPR", "CSA MPR", "CSAPARALLEL", "CSA 3D EDITOR", "REFORMATTED", "PROJECTION IMAGE", "MIP", "MAX_IP", "MIN_IP",
            "MNIP", "VOLREN", "VRT", "SUBTRACTION", "SUBTRACT", "SUB", "SCREEN SAVE", "SCREENSAVE", "PASTED",
        }),
    ),
    (
        "diffusion",
        frozenset({
            "ADC", "ADC_UNSPECIFIED", "EADC", "DIFFUSION", "DIFFUSION_MAP", "TRACE", "TRACEW", "FA", "TENSOR", "CALC_BVALUE",
        }),
    ),
    (
        "a parameter map",
        frozenset({
            "T2 MAP", "T2MAP", "T2_MAP", "T1 MAP", "T1MAP", "T1_MAP", "T2_STAR_MAP", "T2STAR MAP", "R2", "R2_STAR", "R2STAR",
            "FF", "FAT_FRACTION", "FATFRACTION", "PDFF", "FIELD_MAP", "B0 MAP", "B1 MAP",
            "PERFUSION", "CBF", "CBV", "MTT", "TTP", "PBP",
        }),
    ),
    ("a phase picture", frozenset({"P", "PHASE", "PHASE MAP", "PHASE_MAP", "P_SE", "P_FFE", "P_IR"})),
    (
        "a real or imaginary part",
        frozenset({"R", "REAL", "R_SE", "R_FFE", "R_IR", "I", "IMAGINARY", "I_SE", "I_FFE", "I_IR"}),
    ),
)  # fmt: skip
_COPY_WORDS = r"\b(ANNOTAT\w*|OVERLAY\w*|SEGMENT\w*|LABEL\w*|MEASURE\w*|RESULTS?|MARKED|CAD|AI)\b"


def is_derived_secondary(header: FrameHeader) -> bool:
    """Whether ImageType begins with DERIVED and SECONDARY: of pictures made of others, and of some acquired ones."""
    return [value.strip().upper() for value in header.image_type[:2]] == ["DERIVED", "SECONDARY"]


def picture_kind(header: FrameHeader) -> str | None:
    """What a picture is that is never read, None for an acquired magnitude image."""
    values = {value.strip().upper() for value in header.image_type}
    for kind, codes in IMAGE_CODES:
        if values & codes:
            return kind
    component = header.complex_component.strip().upper()
    if component in ("PHASE", "REAL", "IMAGINARY"):
        return "a phase picture" if component == "PHASE" else "a real or imaginary part"
    if header.burned_in.strip().upper() == "YES":
        return "with burned-in annotations"
    if is_derived_secondary(header) and not _is_acquired(header):
        return "a derived secondary picture"
    return "a thick slab" if (header.slice_thickness or 0.0) >= SLAB_MM else None


def _is_acquired(header: FrameHeader) -> bool:
    """Whether a derived secondary picture has its acquisition's facts; a copy with marks has TE and TR, seldom the sequence."""
    sequence = any(value.strip() for value in header.scanning_sequence) or bool(header.echo_kind.strip())
    names = plain_text(f"{header.series_description} {header.protocol_name}")
    return sequence and bool(header.echo_time) and bool(header.repetition_time) and not mentions(_COPY_WORDS, names)
