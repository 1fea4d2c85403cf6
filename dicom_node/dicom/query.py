"""C-FIND: writing a query and reading the matches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_node.errors import DeliveryError

FIND = str(StudyRootQueryRetrieveInformationModelFind)
_MOST_MATCHES = 100_000
# The statuses that say a C-FIND, C-MOVE or C-GET is still going on.
PENDING = (0xFF00, 0xFF01)


def query_of(level: str, keys: Mapping[str, str]) -> Dataset:
    """The identifier of a C-FIND, C-MOVE or C-GET at a level (PS3.4 C.4).

    ``keys`` holds keywords and values; an empty value asks for the value to be returned.
    """
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def find(association: Any, query: Dataset) -> list[Dataset]:
    """The matches of a C-FIND (study root).

    Raises
    ------
    DeliveryError
        If the query fails, is not answered, or has too many matches.
    """
    matches: list[Dataset] = []
    try:
        for status, match in association.send_c_find(query, FIND):
            if "Status" not in status:
                raise DeliveryError("no answer to C-FIND: the association was aborted or timed out")
            if status.Status in PENDING:
                matches += [_asked(match, query)] if match is not None else []
            elif status.Status != 0:
                raise DeliveryError(f"C-FIND failed with status 0x{status.Status:04X}")
            if len(matches) > _MOST_MATCHES:
                raise DeliveryError(f"C-FIND has more than {_MOST_MATCHES} matches")
    except (ValueError, RuntimeError, OSError) as error:
        raise DeliveryError(
            f"C-FIND cannot be sent ({type(error).__name__}: no such service, or no association)"
        ) from None
    return matches


def _asked(match: Dataset, query: Dataset) -> Dataset:
    """What was asked for of a match; an archive may answer with any number of other elements."""
    wanted = {element.tag for element in query}
    asked = Dataset({element.tag: element for element in match.elements() if element.tag in wanted})
    asked.set_original_encoding(*match.original_encoding, match.original_character_set)
    return asked


def text_of(match: Dataset, keyword: str) -> str:
    """A value of a match as text; several values are joined by commas.

    Raises
    ------
    DeliveryError
        If the value cannot be read.
    """
    try:
        value = match.get(keyword)
    except Exception as error:  # an archive may answer anything
        raise DeliveryError(f"the archive's answer cannot be read: {keyword} ({type(error).__name__})") from None
    if value is None or isinstance(value, str):
        return str(value or "").strip(" \0")
    return ",".join(str(part) for part in value) if hasattr(value, "__iter__") else str(value)
