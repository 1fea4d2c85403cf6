"""Whose image it is, as its header says, and whether two headers can be of one patient.

An attribute that is empty says nothing: it neither joins two patients nor parts them. The attributes are those of PS3.3
C.7.1.1 (Patient) by which an archive tells patients apart.
"""

from __future__ import annotations

import unicodedata
import warnings
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset

from spineone_core.imaging.extent import CostlyError
from spineone_core.imaging.file_extent import read_flat
from spineone_core.imaging.files import read_dataset

# A name's component groups: alphabetic, ideographic and phonetic (PS3.5 6.2.1).
_GROUPS = 3


class Relation(StrEnum):
    """What two headers say about their patients."""

    SAME = "same"
    # Nothing that they both state tells whether it is one patient.
    UNKNOWN = "unknown"
    # One patient, whose name is written in two ways.
    SPELLING = "spelling"
    CONTRADICTION = "contradiction"


class Comparison(NamedTuple):
    """The relation of two identities, and what differs, in words without values."""

    relation: Relation
    difference: str = ""


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """What one header says about its patient; empty where it says nothing.

    Parameters
    ----------
    patient_id, issuer
        Patient ID (0010,0020) and Issuer of Patient ID (0010,0021), without padding.
    name
        The component groups of the name, decoded, without regard to case, width, padding and trailing delimiters.
    birth_date
        YYYYMMDD; empty if it is no date.
    sex
        M, F or O; empty otherwise.
    """

    patient_id: str = ""
    issuer: str = ""
    name: tuple[str, ...] = ("",) * _GROUPS
    birth_date: str = ""
    sex: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing tells whose image it is."""
        return self == PatientIdentity()

    @staticmethod
    def of(header: Dataset) -> PatientIdentity:
        """The identity in a header; an attribute that cannot be decoded says nothing."""
        sex = _text(header, "PatientSex").upper()
        return PatientIdentity(
            patient_id=_text(header, "PatientID"),
            issuer=_text(header, "IssuerOfPatientID"),
            name=_groups(_text(header, "PatientName")),
            birth_date=_date(_text(header, "PatientBirthDate")),
            sex=sex if sex in ("M", "F", "O") else "",
        )

    def compared_to(self, other: PatientIdentity) -> Comparison:
        """Whether this and another identity can be of one patient.

        They contradict each other if they state different IDs of one issuer (or of none), different birth dates or
        sexes, or different names without an ID in common. An equal birth date is a common ground for different names
        only if these share a part, as after a marriage: strangers are born on one day too.
        """
        same_id = self._same_id(other)
        facts = {
            "Patient ID": same_id,
            "birth date": _same(self.birth_date, other.birth_date),
            "sex": _same(self.sex, other.sex),
        }
        apart = [what for what, same in facts.items() if same is False]
        if apart:
            return Comparison(Relation.CONTRADICTION, " and ".join(f"another {what}" for what in apart))
        same_birth, same_name = facts["birth date"], _same_name(self.name, other.name)
        if same_name is False:
            akin = same_id or (same_birth and _share_a_part(self.name, other.name))
            return Comparison(Relation.SPELLING if akin else Relation.CONTRADICTION, "another name")
        if self == other and not self.is_empty:
            return Comparison(Relation.SAME)
        return Comparison(Relation.SAME if same_id or (same_birth and same_name) else Relation.UNKNOWN)

    def _same_id(self, other: PatientIdentity) -> bool | None:
        """None if one is empty, or if they may differ because two issuers gave them."""
        same, issuers = _same(self.patient_id, other.patient_id), (self.issuer, other.issuer)
        if same is False:
            return False if issuers[0] == issuers[1] else None
        return None if _same(*issuers) is False else same


def read_identity(path: Path) -> PatientIdentity:
    """The identity in a stored file; an empty one if the file cannot be read."""
    try:
        try:
            return PatientIdentity.of(read_dataset(path, pixels=False))
        except CostlyError:
            return PatientIdentity.of(read_flat(path))
    except Exception:  # whatever is wrong with the file, reading its pixels will report it
        return PatientIdentity()


def _same(one: str, other: str) -> bool | None:
    return one == other if one and other else None


def _same_name(one: tuple[str, ...], other: tuple[str, ...]) -> bool | None:
    """Whether the groups that both names have agree; None if they have none in common."""
    both = [(a, b) for a, b in zip(one, other, strict=True) if a and b]
    return all(a == b for a, b in both) if both else None


def _share_a_part(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return any(_parts(a) & _parts(b) for a, b in zip(one, other, strict=True))


def _parts(group: str) -> set[str]:
    """The words of a component group; a single letter may be any initial."""
    return {word for word in group.replace("^", " ").split() if len(word) > 1 or not word.isascii()}


def _groups(name: str) -> tuple[str, ...]:
    groups = [_component_group(group) for group in name.split("=")][:_GROUPS]
    return (*groups, *[""] * (_GROUPS - len(groups)))


def _component_group(group: str) -> str:
    components = unicodedata.normalize("NFKC", group).casefold().split("^")
    return "^".join(" ".join(component.split()) for component in components).rstrip("^")


def _date(text: str) -> str:
    digits = text.replace(".", "").replace("-", "")
    try:
        datetime.strptime(digits, "%Y%m%d")  # noqa: DTZ007 (a date has no zone)
    except ValueError:
        return ""
    return digits if len(digits) == 8 else ""


def _text(header: Dataset, keyword: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return str(header.get(keyword) or "").strip(" \0")
        except Exception:  # pydicom raises many types on hostile values
            return ""
