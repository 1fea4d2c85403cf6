"""The table of faults is complete, and names tests that exist."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults.table import ROWS, Row

TESTS = Path(__file__).parents[1]


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


def test_security__what_an_input_may_cost_names_rows_of_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    section = text.split("## What an input may cost", 1)[1].split("\n## ", 1)[0]
    lines = [line.strip("| ").rsplit(" | ", 1) for line in section.splitlines() if line.startswith("| ")][2:]
    named = {int(number) for _, numbers in lines for number in numbers.split(", ")}
    assert len(lines) > 10
    assert named <= {row.number for row in ROWS}
    assert set(range(81, 91)) <= named
