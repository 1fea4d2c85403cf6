"""The part of the body that a series shows, by names in many languages, by ranges of levels, and by BodyPartExamined.

Names of other parts of the spine than the lumbar one decide against a series; what lies beside it or holds it (sacrum, whole
spine) and BodyPartExamined, which many sites leave at one value, only rank.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from spineone_core.imaging.headers import FrameHeader
from spineone_core.imaging.words import folded, mentions, plain_text


class Region(StrEnum):
    """A part of the body that a name can mean."""

    LUMBAR = "lumbar spine"
    CERVICAL = "cervical spine"
    THORACIC = "thoracic spine"
    SACRAL = "sacrum or pelvis"
    WHOLE = "several parts of the spine"
    OTHER = "another part of the body"


# For each region, patterns over `plain_text`; the languages that a row serves stand behind it. A word without a boundary behind
# it is a beginning ("LUMB" serves lumbar, lumbal, lumbale, lumbosacral). A new name is a word here and a row
# of the test's table.
REGION_WORDS: dict[Region, tuple[str, ...]] = {
    Region.LUMBAR: (
        r"LUMB|\bL ?SP(INE)?\b|\bLSP\w*|\b(LS|L S|LSS|LS ?SPINE)\b",  # en, and lumbal(e) of de, sv, da, no, it, es, pt, cs
        r"\b(LWS|LWK|LENDEN\w*)\b",  # de, nl
        r"LOMB",  # fr, it, pt, ro; tr lomber
        r"\b(LANDRYGG\w*|LANDKOT\w*|LAENDE\w*|KORSRYGG\w*)\b",  # sv, da, no
        r"\bLANNE\w*",  # fi
        r"\bLEDZW\w*|\bBEDERN\w*|\bDRIEK\w*|\bAGYEK\w*|\bSLABINSK\w*",  # pl, cs, sk, hu, hr
        r"\bПОЯСНИЧ\w*|\bПОПЕРЕК\w*|\bЛЮМБ\w*|\b(ПОП|ПКОП|ПКО|ПКР)\b",  # ru, uk
        r"\bΟΣΦΥ\w*|קטני|מותני|קטנית|قطني",  # el, he, ar
        r"腰|요추|요천추|허리",  # zh, ja; ko
    ),
    Region.CERVICAL: (
        r"\bCERV|CERVI|SERVIK|\bC ?SP(INE)?\b|\b(HWS|HWK|CWK|NECK|NACKE\w*|NAKKE\w*)\b",  # en, de, nl, fr, it, es, pt; tr
        r"\bHALS\w*|\bKAULA\w*|\bNISKA\w*",  # de, nl, sv, da, no; fi
        r"\bSZYJN\w*|\bKRCN\w*|\bNYAKI\w*|\bVRATN\w*",  # pl, cs, sk, hu, hr
        r"\bШЕЙН\w*|\bШИЙН\w*|\bШЕ[ЯИЮ]\b|\b(ШОП|ШКОП)\b",  # ru, uk
        r"\bΑΥΧΕΝ\w*|צווארי|عنقي|رقبي",  # el, he, ar
        r"颈|頸|頚|경추|목뼈",  # zh, ja; ko
    ),
    Region.THORACIC: (
        r"TH?ORA[CKX]|\bTHOR\b|\b[TD] ?SP(INE)?\b|\b(BWS|BWK|TWK|DORSAL(E|ES|IS)?)\b",  # en, de, nl, tr, es, it, fr, pt
        r"\bBRUSTWIRB\w*|\bBORSTWERV\w*|\bBROSTRYGG\w*|\bBRYSTRYG\w*|\bBRYSTHV\w*|\bRINTA\w*",  # de, nl, sv, no, da; fi
        r"\bPIERSIOW\w*|\bHRUDN\w*|\bHATI\b",  # pl, cs, sk, hu
        r"\bГРУДН\w*|\b(ГОП|ГКОП)\b",  # ru, uk
        r"\bΘΩΡΑΚ\w*|חזי|גבי|صدري|ظهري",  # el, he, ar
        r"胸|흉추|흉요추|등뼈",  # zh, ja; ko
    ),
    Region.SACRAL: (
        r"SACR|SAKR|\b(ISG|SIJ|SI ?JOINTS?|SSPINE|COCCYX|COCCYG\w*|COCCIGE\w*|PELVI\w*)\b",  # en and the Romance ones; sv, tr
        r"\bKREUZBEIN\w*|\bSTEISS\w*|\bBECKEN\w*|\bBASSIN\b|\bBACINO\b|\bBEKKEN\w*|\bBACKEN\w*",  # de, fr, it, nl, sv
        r"\bRISTI\w*|\bSI ?NIVEL\w*|\bKRZYZ\w*|\bMIEDNIC\w*|\bKOSTRC\w*|\bKRIZOV\w*",  # fi; pl; cs, sk
        r"\bКРЕСТ\w*|\bКРИЖ\w*|\b(КПС|ТАЗ|ТАЗА)\b|\bКОПЧИК\w*",  # ru, uk
        r"骶|荐椎|薦椎|尾骨|骨盆|骨盤|仙骨|仙椎|仙腸|천추|천골|천장|골반",  # zh, ja; ko
    ),
    Region.WHOLE: (
        r"\b(WHOLE|TOTAL\w*|FULL ?SPINE|ENTIRE|COMPOSED|COMPOSING|TL ?SPINE|TLSPINE|PAN ?SPINE|HOLOSPINE)\b",  # en, it, es
        r"\b(GANZ\w*|GWS|ENTIER|ENTIERE|COMPLET[AEO]?|HELRYGG\w*|HELA RYGGEN|HELE (RYGG|COLUMNA)\w*)\b",  # de, fr, es, sv, no
        r"\bKOKO ?(SELKA)?RANKA\w*|\bCALY KREG\w*|\bCALEGO KREG\w*|\bTUM (SPIN|VERT|OMURG)\w*",  # fi; pl; tr
        r"\bВСЕГО ПОЗВ\w*|\bВЕСЬ ПОЗВ\w*|\bВСЕ ОТДЕЛЫ\b",  # ru
        r"全脊|全椎|全长|全長|전척추|전체 ?척추",  # zh, ja; ko
    ),
    Region.OTHER: (
        r"\b(BRAIN|HEAD|SKULL|CRANI\w*|KNEE|HIP|SHOULDER|ANKLE|WRIST|ELBOW|LIVER|PROSTATE|HEART|BREAST|PITUITARY|ORBIT\w*)\b",
        r"\b(KOPF|SCHADEL\w*|HIRN\w*|KNIE|SCHULTER\w*|HUFT\w*|LEBER|HJARN\w*|HJERN\w*|AIVO\w*|POLVI\w*|OLKA\w*)\b",  # de, sv, fi
        r"\b(CEREBR\w*|ENCEPHAL\w*|ENCEFAL\w*|CERVEAU|CERVELLO|GENOU|GINOCCHIO|RODILLA|JOELHO|EPAULE|SPALLA|HOMBRO|OMBRO)\b",
        r"\b(MOZG\w*|KOLAN\w*|GLOW[YA]\w*|BEYIN|DIZ|OMUZ|KALCA)\b|\bГОЛОВ\w*|\bКОЛЕН\w*|\bПЛЕЧ\w*",  # pl, tr, ru
        r"头|頭部|头颅|脑(?!脊)|脳(?!脊)|膝|肩|髋|股関節|뇌(?!척)|두부|무릎|어깨|고관절",  # zh, ja; ko
    ),
}
# Words that name a region but speak of the patient's position, the coil or the direction of a saturation band.
_NO_REGION = (
    r"\b(DORSAL|VENTRAL|LATERAL)(ES?|IS)? (RECUMB\w*|DECUB\w*|SUPIN\w*|POSITION\w*)"
    r"|\bDECUB\w* (DORSAL|SUPIN)\w*|\bSUPIN\w* DORSAL\w*|\b(HEAD|FEET|FOOT) (FIRST|IN|OUT)\b"
    r"|\b(HEAD NECK|NECK SPINE|HEAD|NECK|BREAST|KNEE|SHOULDER|BODY|SPINE) (COIL|ARRAY|MATRIX|SPULE)\b"
)
# C1 is 1, T1 is 8, L1 is 20, S1 is 25.
_LEVEL_ORIGIN = {"C": 0, "HWK": 0, "T": 7, "TH": 7, "D": 7, "BWK": 7, "L": 19, "LWK": 19, "S": 24, "CO": 29}
_LEVEL_COUNT = {"C": 8, "HWK": 7, "T": 12, "TH": 12, "D": 12, "BWK": 12, "L": 6, "LWK": 6, "S": 5, "CO": 3}
_LETTERS = r"HWK|BWK|LWK|TH|CO|[CTDLS]"
_RANGE = re.compile(
    rf"(?<![^\W_])({_LETTERS}) ?(\d{{1,2}}) ?(?:-|/|~|>|\bTO\b|\bBIS\b) ?({_LETTERS})? ?(\d{{1,2}})?(?![^\W_])"
)
_LUMBAR_LEVELS = range(20, 25)


def named_regions(text: str) -> frozenset[Region]:
    """The regions that a free text names, by words and by ranges of levels; the text may be in any script."""
    spans = list(_level_spans(text))
    plain = re.sub(_NO_REGION, " ", plain_text(without_levels(text)))
    words = {region for region, patterns in REGION_WORDS.items() if any(mentions(p, plain) for p in patterns)}
    return frozenset(words | {_region_of_span(*span) for span in spans})


def without_levels(text: str) -> str:
    """The text, `folded`, without ranges of levels: the T1 of "T1-T12" is a vertebra and no contrast."""
    return _RANGE.sub(lambda found: found[0] if _span(found) is None else " ", folded(text))


def _level_spans(text: str) -> Iterator[tuple[int, int]]:
    for found in _RANGE.finditer(folded(text)):
        if span := _span(found):
            yield span


def _span(found: re.Match[str]) -> tuple[int, int] | None:
    """First and last level of a range, None where it is none: "T2-T1", "T2/S" are contrasts, "L5-2" runs backwards."""
    letter, number, last_letter, last_number = found.groups()
    if last_letter is None and last_number is None:
        return None
    end_letter = last_letter or letter
    if letter == "T" and number in ("1", "2") and not _surely_levels(number, last_letter, last_number):
        return None
    first = _level(letter, int(number))
    last = _level(end_letter, int(last_number) if last_number else 1)
    return (first, last) if first is not None and last is not None and first < last else None


def _surely_levels(number: str, last_letter: str | None, last_number: str | None) -> bool:
    """Whether a range that begins with T1 or T2 means vertebrae: "T1-T12", "T1-12", "T2-L1", but not "T2-S", "T2-3"."""
    if last_number is None:
        return False
    return (
        int(last_number) >= 3 and number == "1"
        if last_letter is None
        else last_letter in ("L", "S") or int(last_number) > 2
    )


def _level(letter: str, number: int) -> int | None:
    inside = (0 if letter == "C" else 1) <= number <= _LEVEL_COUNT[letter]
    return _LEVEL_ORIGIN[letter] + number if inside else None


def _region_of_span(first: int, last: int) -> Region:
    if first in _LUMBAR_LEVELS:
        return Region.LUMBAR
    if first > _LUMBAR_LEVELS[-1]:
        return Region.SACRAL
    if last >= _LUMBAR_LEVELS[0]:
        # From Th10 down to L4 or farther is still one lumbar view; "Th8-L2" and "C1-S1" are not.
        return Region.LUMBAR if first >= 17 and last >= 23 else Region.WHOLE
    return Region.CERVICAL if (first + last) / 2 < 8 else Region.THORACIC


# ---------------------------------------------------------------- one series


@dataclass(frozen=True, slots=True)
class NamedRegion:
    """What a header says about the region.

    ``rank`` is 2 for lumbar, 1 where nothing is said, 0 for a place beside or around it or another one; ``excluded`` is whether
    the description says another region; ``body_part`` is 1 where BodyPartExamined says lumbar, -1 where it says another part
    of the body, 0 where it says nothing. ``text`` and ``source`` are for a person.
    """

    rank: int
    excluded: bool
    body_part: int
    text: str
    source: str

    @property
    def against(self) -> bool:
        """Whether anything speaks against the lumbar spine."""
        return self.excluded or self.rank == 0 or (self.rank == 1 and self.body_part < 0)


def read_region(header: FrameHeader) -> NamedRegion:
    """The region by the description, else the protocol name; BodyPartExamined is told beside them and excludes nothing."""
    body_part, part_name = _body_part(header.body_part)
    for text, source in ((header.series_description, "description"), (header.protocol_name, "protocol name")):
        if regions := named_regions(text):
            if Region.LUMBAR in regions:
                return NamedRegion(2, False, body_part, Region.LUMBAR.value, source)
            beside = regions <= {Region.SACRAL, Region.WHOLE} or Region.WHOLE in regions
            excluded = source == "description" and not beside
            return NamedRegion(0, excluded, body_part, " and ".join(sorted(regions)), source)
    if part_name:
        return NamedRegion(1, False, body_part, part_name, "BodyPartExamined")
    return NamedRegion(1, False, 0, "not said", "")


def _body_part(value: str) -> tuple[int, str]:
    """What BodyPartExamined says: 1, 0 or -1, and the name. SPINE, BACK and the like say nothing (PS3.16 Annex L)."""
    regions = named_regions(value)
    if Region.LUMBAR in regions:
        return 1, Region.LUMBAR.value
    return (-1, " and ".join(sorted(regions))) if regions else (0, "")
