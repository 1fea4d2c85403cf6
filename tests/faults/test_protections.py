"""The table of protections is true of the source, and says something for each fault. What `make protections` found is in docs."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults import protections
from tests.faults.protection_table import NOT_OURS, PROTECTIONS, Protection
from tests.faults.protections import BROKEN, FAILS, NOT_NOTICED, ROOT, read_report
from tests.faults.table import ROWS


@pytest.mark.parametrize("protection", PROTECTIONS, ids=lambda p: f"{p.row} {p.name}")
def test_protection__is_in_the_source_and_can_be_taken_out(protection: Protection) -> None:
    for name, text in protections.taken_out(protection, ROOT).items():
        if name.endswith(".py"):
            compile(text, name, "exec")
        assert text != (ROOT / name).read_text(encoding="utf-8")


def test_every_row_has_a_protection_or_a_reason_why_not() -> None:
    tried = {p.row for p in PROTECTIONS}
    assert tried | NOT_OURS.keys() == {row.number for row in ROWS}
    assert max(Counter((p.row, p.name) for p in PROTECTIONS).values()) == 1


def report(kind: str, message: str) -> str:
    return f'<testsuite><testcase classname="tests.x" name="test"><{kind} message="{message}"/></testcase></testsuite>'


@pytest.mark.parametrize(
    ("kind", "message", "verdict"),
    [
        ("failure", "AssertionError: assert 1 == 2", FAILS),
        ("failure", "Failed: Timeout (&gt;240.0s) from pytest-timeout.", FAILS),
        ("failure", "dicom_node.errors.UnsafePathError: no", FAILS),
        ("error", "failed on teardown with &quot;AssertionError: memory&quot;", FAILS),
        ("error", "failed on setup with &quot;AssertionError: not ready&quot;", BROKEN),
        ("failure", "NameError: name 'x' is not defined", BROKEN),
        ("error", "collection failure", BROKEN),
        ("skipped", "not installed", BROKEN),
        ("system-out", "", NOT_NOTICED),
    ],
)
def test_report__only_a_check_that_failed_counts(kind: str, message: str, verdict: str) -> None:
    assert read_report(report(kind, message)).verdict == verdict


def test_document__says_of_every_protection_which_test_noticed() -> None:
    """After a change of the table: `make protections PROTECTIONS_FLAGS="--rows ..."`."""
    text = (ROOT / "docs" / "protections.md").read_text(encoding="utf-8")
    lines = protections.lines_of(text)
    assert lines.keys() == {(p.row, p.name) for p in PROTECTIONS}
    assert protections.document(lines) == text
    assert NOT_NOTICED not in text
    assert BROKEN not in text
