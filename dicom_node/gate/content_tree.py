"""Reading the content tree of a structured document."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset


def tree(item: Dataset) -> Iterator[Dataset]:
    """Every content item below the given one, depth first, without that item itself."""
    for child in item.get("ContentSequence") or []:
        yield child
        yield from tree(child)


def children(item: Dataset, code: str) -> list[Dataset]:
    """The items directly below the given one whose concept name has this code value."""
    return [child for child in item.get("ContentSequence") or [] if code_of(child) == code]


def code_of(item: Dataset, keyword: str = "ConceptNameCodeSequence") -> str:
    """The code value of the concept name, or of another code sequence; empty if there is none."""
    codes = item.get(keyword)
    return str(codes[0].get("CodeValue", "")) if codes else ""


def value_code(item: Dataset) -> str:
    """The code value of a CODE item's value."""
    return str(item.ConceptCodeSequence[0].CodeValue)


def number(item: Dataset) -> float:
    """The value of a NUM item."""
    return float(item.MeasuredValueSequence[0].NumericValue)


def reference(item: Dataset) -> Dataset:
    """The object that an IMAGE item refers to."""
    return item.ReferencedSOPSequence[0]


def texts(dataset: Dataset) -> list[str]:
    """The values of all TEXT items, in the order of the tree."""
    return [str(item.get("TextValue", "")) for item in tree(dataset) if item.get("ValueType") == "TEXT"]
