"""Which rule of the settings a study fits, judged by the headers of its images."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydicom.dataset import Dataset

from dicom_node.settings.study_rules import StudyRule

_KEYWORDS = ("Modality", "BodyPartExamined", "StudyDescription")
# The length of a Long String (LO, PS3.5 6.2): a pattern is not tried on more, however much a header holds.
_LONGEST = 64


def rule_that_fits(rules: Sequence[StudyRule], series: Sequence[Dataset]) -> StudyRule | None:
    """The first rule that a study fits.

    Parameters
    ----------
    series
        A header of each series. Series without images (documents, dose reports) do not count unless there are no others.
    """
    pictured = [header for header in series if "Rows" in header] or list(series)
    return next((rule for rule in rules if pictured and _fits(rule, pictured)), None)


def _fits(rule: StudyRule, series: Sequence[Dataset]) -> bool:
    """Whether one series fits a rule to analyse, or all of them fit a rule to keep: in doubt a study is analysed."""
    found = [all(_says(header, *pair) for pair in zip(_KEYWORDS, rule.conditions, strict=True)) for header in series]
    return all(found) if rule.action == "keep" else any(found)


def _says(header: Dataset, keyword: str, pattern: str) -> bool:
    return re.search(pattern, _text(header, keyword)[:_LONGEST], re.IGNORECASE) is not None


def _text(header: Dataset, keyword: str) -> str:
    try:
        return str(header.get(keyword) or "").strip(" \0")
    except Exception:  # pydicom raises many types on hostile values; such a value says nothing
        return ""
