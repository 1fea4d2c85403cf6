"""The table of faults is complete, and names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.faults.document import with_faults
from tests.faults.table import ROWS, Row

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent


def test_rows_are_in_order_and_each_number_is_there_once() -> None:
    numbers = [row.number for row in ROWS]
    assert numbers == sorted(set(numbers))
    assert numbers[:50] == list(range(1, 51))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_row__names_tests_that_exist_or_says_why_not(row: Row) -> None:
    assert row.tests or row.open
    for name in row.tests:
        file, function = name.split("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
# Tables of what is protected say nothing that could fail.
WITHOUT_CLAIMS = "## What is worth protecting"


def claims() -> list[tuple[str, str]]:
    """The rows of the tables of docs/security.md: what is claimed, and what holds it."""
    found = []
    for section in SECURITY.split("\n## "):
        if not f"## {section}".startswith(WITHOUT_CLAIMS):
            rows = [line.strip("| ") for line in section.splitlines() if line.startswith("| ")]
            found += [
                row.rsplit(" | ", 1) for row in rows if not row.startswith(("---", "who |", "threat |", "what |"))
            ]
    return [(claim, held) for claim, held in found]


def test_security__each_claim_names_rows_of_the_table_or_tests_that_exist() -> None:
    defined = {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    rows = {str(row.number) for row in ROWS}
    assert len(claims()) > 50
    for claim, held in claims():
        named = set(held.split(", "))
        assert named, claim
        assert {name for name in named if name not in rows and name.strip("`") not in defined} == set(), claim
    assert {str(number) for number in range(81, 95)} <= {name for _, held in claims() for name in held.split(", ")}


def test_reliability__has_the_faults_of_the_table() -> None:
    """After a change of the table: ``python -m tests.faults.document``."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert with_faults(text) == text
