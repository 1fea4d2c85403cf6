"""Searching what would be exported for traces of a person, however they are written.

Texts are compared without case, accents and separators, umlauts in both spellings; dates are found in the usual
writings, numbers of identifiers also without their letters. Values that are too short to mean anything count only as
words of free text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import permutations

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.errors import NodeError

STANDARD_ROOT = "1.2.840.10008."
# Attributes whose whole values point to a person, a visit or a place, besides names, dates and UIDs, which their VR
# tells.
_IDENTIFYING = frozenset(
    [
        "PatientID",
        "IssuerOfPatientID",
        "OtherPatientIDs",
        "PatientAddress",
        "PatientTelephoneNumbers",
        "PatientTelecomInformation",
        "PatientComments",
        "MedicalRecordLocator",
        "MilitaryRank",
        "CountryOfResidence",
        "RegionOfResidence",
        "PatientInsurancePlanCodeSequence",
        "AccessionNumber",
        "StudyID",
        "AdmissionID",
        "ServiceEpisodeID",
        "RequestedProcedureID",
        "ScheduledProcedureStepID",
        "PerformedProcedureStepID",
        "PlacerOrderNumberImagingServiceRequest",
        "FillerOrderNumberImagingServiceRequest",
        "InstitutionName",
        "InstitutionAddress",
        "InstitutionalDepartmentName",
        "StationName",
        "DeviceSerialNumber",
        "DeviceUID",
        "OperatorIdentificationSequence",
        "PersonAddress",
        "PersonTelephoneNumbers",
        "ReferringPhysicianAddress",
        "ReferringPhysicianTelephoneNumbers",
        "StudyComments",
        "ImageComments",
        "AdditionalPatientHistory",
    ]
)
# Codes (CS) keep only known terms (`closed_values`), UIDs are replaced.
_FREE_TEXT_VR = frozenset(["AE", "AS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"])
_NUMBER_VR = frozenset(["DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"])
# Shorter values occur everywhere by chance.
_SHORTEST_WORD, _SHORTEST_INSIDE, _SHORTEST_PAIR, _SHORTEST_CODE = 2, 5, 5, 6
_SHORTEST_NUMBER, _SHORTEST_IN_INTEGER, _SHORTEST_IN_DECIMAL = 4, 6, 8
_SHORTEST_IN_BYTES = 6
# Names of makers and scanners: a name may be a part of such a word (Philip in Philips), but not the whole of it.
_DEVICE_WORDS = frozenset(
    [
        "achieva",
        "aera",
        "altea",
        "alpha",
        "ambition",
        "amira",
        "artist",
        "avanto",
        "canon",
        "centurion",
        "echelon",
        "elition",
        "esaote",
        "explorer",
        "fujifilm",
        "galan",
        "general",
        "healthcare",
        "healthineers",
        "hitachi",
        "hyperfine",
        "imaging",
        "ingenia",
        "intera",
        "magnetom",
        "medical",
        "optima",
        "orian",
        "panorama",
        "philips",
        "prisma",
        "prodiva",
        "sempra",
        "siemens",
        "signa",
        "skyra",
        "sola",
        "symphony",
        "systems",
        "tim",
        "toshiba",
        "trio",
        "united",
        "vantage",
        "verio",
        "vida",
    ]
)
# Spellings of one letter as two, which then lose the second: MÜLLER, MUELLER and MULLER are one.
_LETTERS = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ĳ": "ij"})
_TWO_LETTERS = re.compile(r"([aou])e")
_WORD, _SEPARATORS = re.compile(r"[^\W_]+"), re.compile(r"[\W_]+")
_MONTHS = {
    name: n
    for n, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], start=1
    )
}
_MONTHS |= {"mrz": 3, "mai": 5, "okt": 10, "dez": 12}
_YEAR_FIRST = re.compile(r"(?<!\d)(\d{4})[-./ _]?(\d{1,2})[-./ _]?(\d{1,2})(?!\d)")
_YEAR_LAST = re.compile(r"(?<!\d)(\d{1,2})[-./ _]?(\d{1,2})[-./ _]?(\d{4})(?!\d)")
_SHORT_YEAR = re.compile(r"(?<!\d)(\d{2})[-./ _]?(\d{2})[-./ _]?(\d{2})(?!\d)")
_NAMED_MONTH = re.compile(r"(?<!\d)(\d{1,4})[-./ _]*([a-z]{3})[a-z]*[-./ _,]*(\d{1,4})(?!\d)")
_MONTH_FIRST = re.compile(r"(?<![a-z])([a-z]{3})[a-z]*[-./ _]*(\d{1,2})[-./ _,]+(\d{4})(?!\d)")


class IdentifyingError(NodeError):
    """The study cannot be de-identified; none of it was written. The message names the attribute, never its value."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """A value that must not be found again, and the attribute that it came from."""

    keyword: str
    text: str
    # Whether this is a part of a person's name, which is searched for as a word.
    is_word: bool = False
    # The day that the value means, if it is a date.
    day: date | None = None
    is_uid: bool = False


def identifiers_of(dataset: Dataset) -> set[Identifier]:
    """Everything in a data set that points to a person, a visit, a place or a day."""
    found: set[Identifier] = set()
    for element in readable(dataset):
        name = element.keyword or f"{element.tag}"
        if element.VR == "SQ":
            for item in element.value:
                found |= identifiers_of(item)
        elif element.VR == "PN":
            words = {word for text in texts_of(element) for word in _WORD.findall(text)}
            found |= {Identifier(name, word, is_word=True) for word in words}
            found |= {Identifier(name, text) for text in texts_of(element)}
        elif element.VR in ("DA", "DT"):
            found |= {Identifier(name, text, day=_day(text)) for text in texts_of(element)}
        elif element.keyword in _IDENTIFYING:
            found |= {Identifier(name, text) for text in texts_of(element)}
        elif element.VR == "UI":
            found |= {
                Identifier(name, text, is_uid=True) for text in texts_of(element) if not text.startswith(STANDARD_ROOT)
            }
    return found


def readable(dataset: Dataset) -> Iterator[DataElement]:
    """The elements outside the pixel data whose values can be read; the others are not worth keeping."""
    for tag in list(dataset.keys()):
        if tag.group == 0x7FE0:
            continue
        try:
            yield dataset[tag]
        except Exception:  # a value that cannot be parsed fails in many ways
            continue


def texts_of(element: DataElement) -> list[str]:
    """The values of an element as texts, without padding; none for empty ones."""
    value = element.value
    values = value if isinstance(value, MultiValue | list) else [value]
    return [text for v in values if v is not None and (text := str(v).strip(" \0"))]


def folded(text: str) -> str:
    """The text without case and accents, and with one spelling for umlauts."""
    plain = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    return _TWO_LETTERS.sub(r"\1", "".join(c for c in plain if not unicodedata.combining(c)))


def compact(text: str) -> str:
    """The `folded` text's letters and digits."""
    return _SEPARATORS.sub("", folded(text))


class Traces:
    """What must not be found, prepared for searching.

    Parameters
    ----------
    known
        The identifiers of the original.
    """

    def __init__(self, known: Iterable[Identifier]) -> None:
        # Longer values first, in a fixed order: the same image always gets the same message.
        listed = sorted(known, key=lambda i: (-len(i.text), i.keyword, i.text))
        words = {folded(i.text): i.keyword for i in listed if i.is_word}
        self._words = {
            word: keyword for word, keyword in words.items() if len(word) >= _SHORTEST_WORD or not word.isascii()
        }
        self._codes = {compact(i.text): i.keyword for i in listed if not (i.is_word or i.is_uid or i.day)}
        self._days = {i.day: i.keyword for i in listed if i.day}
        self._numbers = {n: keyword for text, keyword in self._codes.items() if (n := _number(text))}
        self._numbers |= {n: keyword for day, keyword in self._days.items() for n in _numbers_of(day)}
        self._pairs = {
            one + other: keyword
            for (one, keyword), (other, _) in permutations(self._words.items(), 2)
            if len(one + other) >= (_SHORTEST_PAIR if (one + other).isascii() else 2)
        }
        self._seen: dict[tuple[str, str], str] = {}

    def repeated_by(self, element: DataElement) -> str:
        """The attribute of the original that an element repeats; empty if it repeats none."""
        kind = "text" if element.VR in _FREE_TEXT_VR else element.VR if element.VR in _NUMBER_VR else ""
        for text in texts_of(element) if kind else ():
            if (kind, text) not in self._seen:
                self._seen[kind, text] = self._in_text(text) if kind == "text" else self._in_number(text, kind)
            if self._seen[kind, text]:
                return self._seen[kind, text]
        return ""

    def _in_text(self, text: str) -> str:
        words, whole = _WORD.findall(folded(text)), compact(text)
        digits = "".join(c for c in whole if c.isdigit())
        hits = (
            *(self._words.get(word, "") for word in words),
            *(self._codes.get(word, "") for word in words if len(word) >= _SHORTEST_WORD + 1),
            *(keyword for name, keyword in self._words.items() if _is_inside(name, words)),
            *(keyword for pair, keyword in self._pairs.items() if pair in whole),
            *(keyword for code, keyword in self._codes.items() if len(code) >= _SHORTEST_CODE and code in whole),
            *(keyword for n, keyword in self._numbers.items() if len(n) > _SHORTEST_NUMBER and n in digits),
            *(self._days.get(day, "") for day in _days_in(folded(text))),
        )
        return next(filter(None, hits), "")

    def _in_number(self, text: str, vr: str) -> str:
        """Whole numbers may equal an identifier or hold a longer one; decimals hold many digits by chance."""
        digits = re.sub(r"\D", "", re.sub(r"\.0*$", "", text)).lstrip("0")
        whole = _SHORTEST_NUMBER if vr == "IS" else _SHORTEST_NUMBER + 1
        inside = _SHORTEST_IN_INTEGER if vr == "IS" else _SHORTEST_IN_DECIMAL
        hits = (
            keyword
            for number, keyword in self._numbers.items()
            if (len(number) >= whole and number == digits) or (len(number) >= inside and number in digits)
        )
        return next(hits, "")


def _is_inside(name: str, words: Iterable[str]) -> bool:
    return len(name) >= _SHORTEST_INSIDE and any(name in word for word in words if word not in _DEVICE_WORDS)


def check_bytes(known: Iterable[Identifier], written: bytes) -> None:
    """Search bytes for identifiers that are too long to occur by chance, in any case.

    Raises
    ------
    IdentifyingError
        If one is found.
    """
    lowered = written.lower()
    for identifier in known:
        for form in {identifier.text.encode(code, "ignore").lower() for code in ("utf-8", "latin-1")}:
            long_enough = len(form) >= _SHORTEST_IN_BYTES and not identifier.is_word
            if long_enough and _stands_alone(form, lowered, joins="."):
                raise IdentifyingError(f"{identifier.keyword} is found in what would be written; it cannot be exported")


def _stands_alone(form: bytes, written: bytes, joins: str = "") -> bool:
    """Whether bytes occur on their own, not only in a longer number or word (``joins``: signs that belong to one)."""
    start = written.find(form)
    while start >= 0:
        around = written[start - 1 : start] + written[start + len(form) : start + len(form) + 1]
        if not any(chr(c).isalnum() or chr(c) in joins for c in around if c < 128):
            return True
        start = written.find(form, start + 1)
    return False


# ---------------------------------------------------------------- numbers and days


def _number(code: str) -> str:
    """The digits of an identifier without leading zeros; empty if there are few."""
    digits = "".join(c for c in code if c.isascii() and c.isdigit()).lstrip("0")
    return digits if len(digits) >= _SHORTEST_NUMBER else ""


def _numbers_of(day: date) -> set[str]:
    """A day as one number, in the usual orders; without a leading zero, as a number has none."""
    return {day.strftime(form).lstrip("0") for form in ("%Y%m%d", "%d%m%Y", "%m%d%Y")}


def _day(text: str) -> date | None:
    return _date(text[:4], text[4:6], text[6:8]) if text[:8].isdigit() and len(text) >= 8 else None


def _date(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


def _days_in(text: str) -> Iterator[date]:
    """The days that a `folded` text may name: 1961-03-24, 24.03.1961, 03/24/1961, 24MAR1961, March 24, 1961, 240361."""
    for year, month, day in _written_days(text):
        for full in [year] if len(year) == 4 else [f"19{year}", f"20{year}"]:
            if found := _date(full, month, day):
                yield found


def _written_days(text: str) -> Iterator[tuple[str, str, str]]:
    """Year, month and day as written."""
    for first, second, third in _YEAR_FIRST.findall(text):
        yield first, second, third
    for first, second, third in _YEAR_LAST.findall(text):
        yield from ((third, second, first), (third, first, second))
    for first, second, third in _SHORT_YEAR.findall(text):
        yield from ((first, second, third), (third, second, first), (third, first, second))
    for first, month, third in _NAMED_MONTH.findall(text):
        number = str(_MONTHS.get(month, 0))
        yield from ((third.zfill(2), number, first), (first.zfill(2), number, third))
    for month, day, year in _MONTH_FIRST.findall(text):
        yield year, str(_MONTHS.get(month, 0)), day
