from __future__ import annotations

from enum import StrEnum

import pytest

from dicom_node.errors import InvalidTransitionError
from dicom_node.system.transitions import next_state


class Door(StrEnum):
    OPEN = "open"
    SHUT = "shut"


class Push(StrEnum):
    GENTLY = "pushed_gently"


def test_next_state__by_the_table_or_not_at_all() -> None:
    table = {(Door.OPEN, Push.GENTLY): Door.SHUT}
    assert next_state(table, Door.OPEN, Push.GENTLY, "door 1") is Door.SHUT
    with pytest.raises(InvalidTransitionError, match=r"^door 1 is shut: it cannot be pushed gently$"):
        next_state(table, Door.SHUT, Push.GENTLY, "door 1")
