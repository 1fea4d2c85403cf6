"""State machines as literal tables: which event takes a thing from which state to which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from dicom_node.errors import InvalidTransitionError

StateT = TypeVar("StateT", bound=StrEnum)
EventT = TypeVar("EventT", bound=StrEnum)


def next_state(table: Mapping[tuple[StateT, EventT], StateT], state: StateT, event: EventT, what: str) -> StateT:
    """The state after an event; ``what`` names the thing in an error message, such as ``job 7``.

    Raises
    ------
    InvalidTransitionError
        If the table has no such transition.
    """
    after = table.get((state, event))
    if after is None:
        raise InvalidTransitionError(f"{what} is {state.value}: it cannot be {event.value.replace('_', ' ')}")
    return after
