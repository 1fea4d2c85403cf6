"""Values of DICOM elements: decimal strings, display windows, sequences of one item, codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.valuerep import format_number_as_ds

from spineone_core.arrays import AnyFloats

STUDY_DATE, STUDY_TIME = "20260105", "093000"


def decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return format_number_as_ds(float(value))


def window(pixels: AnyFloats) -> tuple[float, float]:
    """Centre and width that show the picture as the console of a scanner would."""
    high = max(2.0, round(float(np.percentile(pixels, 98.5)) * 1.1))
    return high / 2, high


def items(**values: Any) -> Items:
    """A sequence of one item that holds the given keywords."""
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return Items([item])


def code(value: str, scheme: str, meaning: str) -> Items:
    """A coded entry."""
    return items(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)
