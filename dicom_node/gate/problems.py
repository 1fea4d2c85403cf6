"""What the gate's rules have in common: their types, walking the elements of an object, and comparing values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

Problems = Iterator[str]
Rule = Callable[[Dataset], Problems]


@dataclass(frozen=True, slots=True)
class ObjectRules:
    """What one class of object must have besides what every object has: attributes of type 1 and 2, and rules."""

    type_1: tuple[str, ...] = ()
    type_2: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()


def elements(dataset: Dataset) -> Iterator[Any]:
    """Every element of an object, including those inside its sequences."""
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)


def wrong_values(dataset: Dataset, wanted: dict[str, Any]) -> Problems:
    """The attributes that do not have exactly the wanted value."""
    for keyword, value in wanted.items():
        if dataset.get(keyword) != value:
            yield f"{keyword}: must be {value}"
