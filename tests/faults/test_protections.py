"""The table of protections is true of the source, and says something for each fault. What `make protections` found is in docs."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults import protections
from tests.faults.protection_table import NOT_OURS, PROTECTIONS, Protection
from tests.faults.protections import ROOT
from tests.faults.table import ROWS


@pytest.mark.parametrize("protection", PROTECTIONS, ids=lambda p: f"{p.row} {p.name}")
def test_protection__is_in_the_source_and_can_be_taken_out(protection: Protection) -> None:
    for name, text in protections.taken_out(protection, ROOT).items():
        compile(text, name, "exec")
        assert text != (ROOT / name).read_text(encoding="utf-8")


def test_every_row_has_a_protection_or_a_reason_why_not() -> None:
    tried = {p.row for p in PROTECTIONS}
    assert tried | NOT_OURS.keys() == {row.number for row in ROWS}
    assert max(Counter((p.row, p.name) for p in PROTECTIONS).values()) == 1
