"""One table says what the files of a result are, and everything that depends on it follows it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.database.words import RESULT_ROLES, SENT_ROLES
from dicom_node.dicom.sop_classes import OWN_RESULTS, WRITTEN
from dicom_node.gate.check import RULES_OF
from dicom_node.results.kinds import ALTERNATIVES, OBJECT_KINDS, RESULT_KINDS, ObjectKind

ROOT = Path(__file__).resolve().parents[3]


def test_roles_are_those_of_the_database() -> None:
    assert sorted(kind.role for kind in RESULT_KINDS) == sorted(RESULT_ROLES)


def test_destinations_choose_among_the_objects_that_are_sent() -> None:
    assert tuple(kind.role for kind in OBJECT_KINDS if not kind.stands_in_for) == SENT_ROLES


def test_classes_are_those_that_are_recognised_and_checked() -> None:
    classes = {kind.sop_class for kind in OBJECT_KINDS}
    assert classes == WRITTEN == set(RULES_OF)
    assert classes < OWN_RESULTS


@pytest.mark.parametrize(
    "name",
    [
        lambda kind: kind.role,
        lambda kind: kind.file_name,
        lambda kind: kind.uid_name or kind.role,
        lambda kind: (kind.series.uid_name, kind.instance_number),
    ],
    ids=["role", "file name", "UID", "place in a series"],
)
def test_no_two_objects_have_the_same(name: Callable[[ObjectKind], object]) -> None:
    assert len({name(kind) for kind in OBJECT_KINDS}) == len(OBJECT_KINDS)


def test_file_names_are_unique() -> None:
    assert len({kind.file_name for kind in RESULT_KINDS}) == len(RESULT_KINDS)


def test_no_uid_of_an_object_is_that_of_a_series() -> None:
    objects, series = {kind.uid_name for kind in OBJECT_KINDS}, {kind.series.uid_name for kind in OBJECT_KINDS}
    assert not objects & series


def test_an_object_stands_in_for_one_of_another_class() -> None:
    """The destination's choice is by class; what stands in has no further alternative."""
    by_role = {kind.role: kind for kind in OBJECT_KINDS}
    assert ALTERNATIVES == {"report": "report_2d"}
    for role, other in ALTERNATIVES.items():
        assert by_role[role].sop_class != by_role[other].sop_class
        assert other not in ALTERNATIVES


def test_the_table_is_light() -> None:
    """The outbox reads it; the library that builds objects is loaded where objects are built."""
    code = "import sys, dicom_node.results.kinds; sys.exit('highdicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
