"""Fat and water: which part of the signal a series shows, by ImageType, codes and times, else by its names.

Names deny as often as they state ("NON FS", "ohne FS"), and Dixon's four reconstructions are told apart by a letter.
"""

from __future__ import annotations

import re
from enum import StrEnum

from spineone_core.imaging.headers import FrameHeader
from spineone_core.imaging.sequence_facts import SequenceFacts
from spineone_core.imaging.words import mentions, plain_text


class Fat(StrEnum):
    """What a series shows of fat and water. Only the first two can be read, the second where there is no first."""

    PLAIN = "plain"
    SUPPRESSED = "fat-suppressed"
    ONLY = "fat only"
    OPPOSED = "opposed phase"


# ImageType and FrameType, from their third value on, as Siemens, GE, Philips and Canon write them.
_IMAGE_CODES: tuple[tuple[Fat, frozenset[str]], ...] = (
    (Fat.ONLY, frozenset({"F", "FAT", "FAT_ONLY", "F_SE", "FATONLY"})),
    (
        Fat.OPPOSED,
        frozenset({
            "OP", "OPP", "OUT", "OUT_PHASE", "OUTPHASE", "OPP_PHASE", "OPPOSED_PHASE", "OPPOSED", "OOP", "OUT_OF_PHASE",
        }),
    ),
    (Fat.PLAIN, frozenset({"IP", "IN_PHASE", "INPHASE", "IN", "IP_SE"})),
    (Fat.SUPPRESSED, frozenset({"W", "WATER", "WATER_ONLY", "W_SE", "WATERONLY"})),
)  # fmt: skip
_DIXON = r"\b(M?DIXON\w*|IDEAL|FLEX|WFI|WFS|WATER ?FAT|QDIXON|DIX)\b"
_IN_PHASE, _OPPOSED = (
    r"\b(INPHASE|IN ?PHASE|INPHASIG)\b",
    r"\b(OUT ?OF ?PHASE|OUT ?PHASE|OPP(OSED)? ?PHASE|OPPOSED|OPPHASE|OPP|OOP)\b",
)
# Words for fat suppression, each a whole word of `plain_text`; "W" is in T2W.
_SATURATION = (
    r"FAT ?SAT\w*|FAT ?SUP\w*|FAT ?SEP\w*|FETT ?SAT\w*|FETT ?(UNTERD|SUP)\w*|YAG BASKI\w*"
    r"|(SAT|SUPP?R?)\w* (DE )?(LA )?(GRAISSE|GRASA|GORDURA)|SOPP\w* (DEL? )?GRASSO"
    r"|FS|FATSAT|SPAIR|SPIR|ASPIR|SPECIAL|CHESS|STIR|TIRM|FAT|PROSET|DIXON"
    r"|ЖИРОПОДАВЛ\w*|ПОДАВЛ\w* ЖИР\w*|ЖИРОНАСЫЩ\w*"
)
_NO = r"NON|NO|NOT|NICHT|KEIN\w*|W ?/ ?O|W O|WO|WITHOUT|OHNE|O\.?|SANS|SIN|SENZA|SEM|ZONDER|GEEN|UTAN|UDEN|UTEN|BEZ|ILMAN|EI|БЕЗ"
_DENIED = (
    rf"\b({_NO}) ?({_SATURATION})\b|\b(NOFS|NONFS|NFS|NFATSAT|NOFAT\w*|NONFAT\w*)\b|\b({_SATURATION}) ?(OFF|NEG)\b"
)
_DENIED_UNSPACED = r"(非|无|無|不)(压脂|壓脂|脂肪抑制|抑脂|脂肪饱和)|脂肪抑制(なし|無し|off)|비지방억제|지방억제 ?없음"
_UNSPACED = "压脂|壓脂|脂肪抑制|抑脂|지방억제"
_SUPPRESSED = rf"\b({_SATURATION}|IR|WATER|IDEAL|WFI|MDIXON\w*|QDIXON)\b|\bT2W?FS\b|TSEFS\b|FSEFS\b|{_UNSPACED}"


def read_fat(header: FrameHeader, facts: SequenceFacts) -> Fat:
    """ImageType first, then codes and inversion, then the description, then the protocol name where there is no description."""
    values = {value.strip().upper() for value in header.image_type[2:]}
    for fat, codes in _IMAGE_CODES:
        if values & codes:
            return fat
    suppression = header.suppression.strip().upper()
    if suppression == "WATER":
        return Fat.ONLY
    if suppression.startswith("FAT") or facts.stir or (facts.inversion and facts.inversion_time is None):
        return Fat.SUPPRESSED
    named = _named(plain_text(header.series_description) or plain_text(header.protocol_name))
    if named is None and mentions(r"\b(FS|FATSAT|FAT ?SAT\w*)\b", plain_text(header.scan_options)):
        return Fat.SUPPRESSED
    return named or Fat.PLAIN


def _named(text: str) -> Fat | None:
    """The kind that a `plain_text` names, None where it names none."""
    text = re.sub(_DENIED_UNSPACED, " ", re.sub(_DENIED, " ", text))
    dixon = mentions(_DIXON, text)
    if mentions(_OPPOSED, text) or (dixon and mentions(r"\bOP\b", text)):
        return Fat.OPPOSED
    if mentions(_IN_PHASE, text) or (dixon and mentions(r"\b(IN|IP)\b", text)):
        return Fat.PLAIN
    if (
        dixon and mentions(r"\b(F|FAT(?! ?(SAT|SUP|SEP|/)))\b", text) and not mentions(r"\b(W|WATER)\b", text)
    ) or mentions(r"\bFAT ?(ONLY|IMAGES?)\b|^FAT (?!SAT|SUP|SEP)\w", text):
        return Fat.ONLY
    return Fat.SUPPRESSED if mentions(_SUPPRESSED, text) else None


def names_stir(text: str) -> bool:
    """Whether a `plain_text` says STIR or TIRM: inversion recovery that nulls fat, which is T2-like contrast."""
    return mentions(r"\b(STIR|TIRM)\b", re.sub(_DENIED, " ", text))


def names_inversion(text: str) -> bool:
    """Whether a `plain_text` says inversion recovery of any kind."""
    return mentions(r"\bIR\b", text) or names_stir(text)
