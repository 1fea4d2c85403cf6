"""The contrast of a series: its acquisition's facts first, names where these leave it open.

A name never outranks a contradiction, and no single word is a veto against the facts. docs/conformance.md, "What is T2", has
the order as a table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from spineone_core.imaging.fat import Fat, names_inversion, names_stir, read_fat
from spineone_core.imaging.headers import FrameHeader
from spineone_core.imaging.regions import without_levels
from spineone_core.imaging.sequence_facts import (
    NAMED_T2_ECHO_MS,
    STIR_ECHO_MS,
    SequenceFacts,
    contrast_against_t2,
    kind_by_times,
    read_facts,
    too_short_for_t2,
)
from spineone_core.imaging.words import mentions, plain_text

FLUID, T2_STAR, GRADIENT = "fluid-attenuated", "T2*-weighted", "gradient echo"
MYELOGRAPHY, DIFFUSION, FLOW, MAP = "myelography", "diffusion", "perfusion or flow", "a parameter map"
DERIVED, T1, PROTON = "a reformatted or derived picture", "T1-weighted", "proton density"
# Names of other contrasts than T1, T2 and proton density.
OTHER_KINDS: tuple[tuple[str, str], ...] = (
    (T2_STAR, r"T2 ?(\*|STAR\b)"),
    (FLUID, r"FLAIR|\bDARK ?FL"),
    (MYELOGRAPHY, r"MYELO|\bMRM\b"),
    (DIFFUSION, r"\b(DWI?|DTI|ADC|E?EPI|TRACEW?|DIFF|DIFFUSION|(?<!DEEP )RESOLVE|B\d{3,4})\b"),
    (
        GRADIENT,
        r"\b(GRE|GE3D|FFE|[MBS]FFE|B?TFE|MEDIC|MERGE|CISS|VIBE|SWIP?|DESS|EFGRE\w*|FL[23]D\w*|GRADIENT)\b"
        r"|FLASH|FISP|TRUFI|SPGR|FIESTA",
    ),
    (MAP, r"\bT2 ?MAP|\bMAPPING\b|\bMAP\b"),
    (FLOW, r"\b(DCE|DSC|PERF\w*|FLOW(?! ?COMP)|PHASE ?CONTRAST|MRA|TOF|CINE)\b"),
    (DERIVED, r"\b(MPR|MIP|MINIP|REFORMAT\w*|SUB|SUBTRACTION|SCREEN ?SAVE|VRT)\b"),
)
# What is made of an acquisition carries its times: these words no fact of the acquisition overrules.
LASTING_WORDS = r"\b(ADC|EADC|T[12]\*? ?MAP\w*|MAPPING|MPR|MIP|MINIP|REFORMAT\w*|SUBTRACTION|SCREEN ?SAVE|VRT)\b"
# "T2" may be glued to these in front (SAGT2, 3DT2, sT2W); "T2" in T20 or PART2 is something else.
_GLUED = r"(?:S|C|A|E|W|H|SAG|SAGITTAL|SG|LSPINE|LUMBAR|TSE|STSE|FSE|SE|FRFSE|SPC|2D|3D|DRIVE|PROPELLER|BLADE)"
_T1 = rf"\b{_GLUED}?T1(?!\d)"
_T2 = rf"\b{_GLUED}?T2(?!\d)"
_PROTON = r"\b(PDW?|PD ?FS|PROTON)\b|\bPDW?_?TSE"
_TIMES = r"\b(\d{3,5})(?:\.\d+)? ?/ ?(\d{1,3})(?:\.\d+)?\b"
_CONTRAST_CODES = {
    "T2": "T2",
    "STIR": "T2",
    "T1": T1,
    "PROTON_DENSITY": PROTON,
    "DIFFUSION": DIFFUSION,
    "FLUID_ATTENUATED": FLUID,
    "T2_STAR": T2_STAR,
    "FLOW_ENCODED": FLOW,
    "PERFUSION": FLOW,
}


@dataclass(frozen=True, slots=True)
class Weighting:
    """What a header says about the contrast.

    ``kind`` is "T2", the name of another contrast or "unknown"; ``source`` names what says so. ``fat`` is what it shows of fat
    and water. ``notes`` say what was not used or not believed.
    """

    kind: str
    source: str
    fat: Fat = Fat.PLAIN
    notes: tuple[str, ...] = ()

    @property
    def fat_suppressed(self) -> bool:
        """Whether fat is dark: inversion recovery, saturation, or the water part of a Dixon series."""
        return self.fat is Fat.SUPPRESSED


@dataclass(frozen=True, slots=True)
class _Named:
    """The contrast that the names say; ``kind`` None where they say none or too many.

    ``lasting`` is as of LASTING_WORDS, ``t2`` whether T2 is among what they say, ``inversion`` whether they say inversion.
    """

    kind: str | None = None
    source: str = "description"
    lasting: bool = False
    t2: bool = False
    inversion: bool = False


def read_weighting(header: FrameHeader) -> Weighting:
    """The contrast of a series by one of its headers.

    In this order: facts that rule T2 out; facts that make it T2 (times of T2, or fat-nulling inversion), unless a name says
    what they cannot tell apart; the description, the protocol name, AcquisitionContrast, and the times.
    """
    facts, named = read_facts(header), _read_names(header)
    fat = read_fat(header, facts)
    kind, source, notes = _judge(header, facts, named, fat)
    return Weighting(kind or "unknown", source, fat, (*facts.notes, *notes))


def _judge(
    header: FrameHeader, facts: SequenceFacts, named: _Named, fat: Fat
) -> tuple[str | None, str, tuple[str, ...]]:
    """Kind, source and notes."""
    if named.lasting:
        return named.kind, named.source, ()
    if header.b_value and header.b_value > 0:
        return DIFFUSION, "its b-value", ()
    if against := contrast_against_t2(facts):
        if named.kind not in (None, "T2"):
            return named.kind, named.source, ()
        return *against, ()
    if stir := _stir(facts, named):
        return *stir, ()
    code = header.acquisition_contrast.strip().upper()
    short = None if code == "STIR" else too_short_for_t2(facts)
    coded = _CONTRAST_CODES.get(code)
    by_times = kind_by_times(facts.echo, facts.repetition)
    if named.kind == "T2" or (named.kind is None and coded == "T2"):
        source = named.source if named.kind else "AcquisitionContrast"
        return ("T2", source, ()) if short is None else (short, "TE and TR", ())
    if named.kind is not None and by_times == "T2" and coded in (None, "T2") and _overruled(header, facts, named):
        # A name that says T2 beside another contrast says T2, too.
        note = f"the {named.source} names another contrast than TE and TR, which are those of T2"
        return "T2", named.source if named.t2 else "TE and TR", (note,)
    if named.kind is not None:
        return named.kind, named.source, ()
    return (by_times, "TE and TR", ()) if coded is None else (coded, "AcquisitionContrast", ())


def _stir(facts: SequenceFacts, named: _Named) -> tuple[str, str] | None:
    """One rule for STIR: inversion that nulls fat, by its time or by its name, with an echo of 20 to 250 ms, is T2 without fat.

    None where it is no STIR. Without an inversion time, a name of T1 or of nulled fluid decides, and inversion that has no
    name is taken for STIR only with an echo that T1-weighted ones do not have.
    """
    if facts.inversion_time is None:
        if named.kind not in (None, "T2") or not (facts.inversion or named.inversion):
            return None
        if named.kind is None and (facts.echo is None or facts.echo < NAMED_T2_ECHO_MS):
            return None
    elif not facts.stir:
        return None
    if facts.echo is not None and not STIR_ECHO_MS[0] <= facts.echo <= STIR_ECHO_MS[1]:
        return "with too short an echo time", "TE and TR"
    return "T2", named.source if named.kind == "T2" else "its sequence parameters"


def _overruled(header: FrameHeader, facts: SequenceFacts, named: _Named) -> bool:
    """Whether an acquisition with the times of T2 cannot be what a name says.

    T1 and proton density have other times. Gradient echoes are ruled out by a known spin echo, inversion by a sequence without
    it, diffusion (also a spin echo of such times) and perfusion by a turbo spin echo; myelograms are thick or single-shot.
    """
    if named.kind in (T1, PROTON):
        return True
    if named.kind in (GRADIENT, T2_STAR):
        return facts.spin_echo is True
    if named.kind == FLUID:
        return facts.inversion is False
    if named.kind == FLOW:
        return facts.spin_echo is not False
    if named.kind == DIFFUSION:
        return facts.spin_echo is True and (named.t2 or named.source != "description" or _is_turbo(header, facts))
    if named.kind == MYELOGRAPHY:
        thin = header.slice_thickness is not None and header.slice_thickness < 10
        return facts.turbo and thin and facts.echo is not None and facts.echo <= 150
    return facts.turbo and header.image_type[:2] == ("ORIGINAL", "PRIMARY")


def _is_turbo(header: FrameHeader, facts: SequenceFacts) -> bool:
    """A turbo spin echo for certain: echo-planar images have one refocusing pulse, and 90 degrees as their flip angle."""
    return facts.turbo and header.flip_angle is not None and header.flip_angle > 95


# ---------------------------------------------------------------- names


def _read_names(header: FrameHeader) -> _Named:
    """The description's contrast, else the protocol name's; a protocol name that lists several contrasts says none."""
    texts = (header.series_description, "description"), (header.protocol_name, "protocol name")
    for value, source in texts:
        text = plain_text(without_levels(value))
        kinds = _kinds(text)
        if source == "protocol name" and len(kinds) > 1:
            continue
        kind = _named_kind(text, kinds, header)
        if kind is not None:
            lasting = source == "description" and kind in (MAP, DERIVED, DIFFUSION) and mentions(LASTING_WORDS, text)
            return _Named(kind, source, lasting, "T2" in kinds, names_inversion(text))
    return _Named(inversion=names_inversion(plain_text(header.series_description)))


def _kinds(text: str) -> set[str]:
    """Every contrast that a `plain_text` names."""
    kinds = {kind for kind, pattern in OTHER_KINDS if mentions(pattern, text)}
    kinds |= {kind for kind, pattern in ((T1, _T1), (PROTON, _PROTON)) if mentions(pattern, text)}
    return kinds | {"T2"} if names_stir(text) or (mentions(_T2, text) and T2_STAR not in kinds) else kinds


def _named_kind(text: str, kinds: set[str], header: FrameHeader) -> str | None:
    """The contrast that a text names, or None; what is neither T1, T2 nor proton density goes first, then T1."""
    for kind, _ in OTHER_KINDS:
        if kind in kinds:
            return kind
    if {T1, "T2"} <= kinds:
        # "T1 T2 SAG": only the times can tell; without them it counts as T1.
        facts = read_facts(header)
        return kind_by_times(facts.echo, facts.repetition) or T1
    for kind in (T1, "T2", PROTON):
        if kind in kinds:
            return kind
    times = re.search(_TIMES, text)
    return kind_by_times(float(times[2]), float(times[1])) if times else None
