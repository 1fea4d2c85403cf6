"""Annotations of SDID-TC: classes, order along the spine, and every fault of real files by name."""

from __future__ import annotations

from typing import Any

import pytest

from spineone_core.anatomy import Grade
from trainer.datasets.sdid_points import LEVELS, kind_of, read_grade, read_points


def item(name: str, tag: dict[str, str] | None = None, coord: Any = None) -> dict[str, Any]:
    """A point at its usual place, 18 pixels below the level above, normal unless told otherwise."""
    row = 20.0 + 18 * LEVELS.index(name) if name in LEVELS else 20.0
    tag = {kind_of(name): "v1"} if tag is None else tag
    return {"coord": [100.0, row] if coord is None else coord, "tag": {"identification": name, **tag}, "zIndex": 5}


def spine(**changes: dict[str, Any]) -> list[dict[str, Any]]:
    """All eleven points; ``changes`` replace that of a level (``L1_L2`` for L1-L2)."""
    given = {name.replace("_", "-"): change for name, change in changes.items()}
    return [given.get(level, item(level)) for level in LEVELS]


@pytest.mark.parametrize(
    ("codes", "grade"),
    [
        ("v1", Grade.NORMAL),
        ("v2", Grade.DEGENERATIVE),
        ("v3,v2", Grade.DEGENERATIVE),
        ("v5", Grade.DEGENERATIVE),
        ("", None),
        ("v6", None),
        ("v1,v6", None),
    ],
)
def test_grade__v1_is_normal_other_codes_degenerative_all_else_unknown(codes: str, grade: Grade | None) -> None:
    assert read_grade(codes, "disc") is grade


def test_whole_annotation__has_no_notes() -> None:
    reading = read_points(spine())
    assert reading.notes == ()
    assert tuple(reading.points) == LEVELS
    assert set(reading.grades.values()) == {Grade.NORMAL}


@pytest.mark.parametrize(
    ("raw", "grade", "note"),
    [
        (spine(L2=item("L2", {"vertebra": "v2", "disc": ""})), Grade.DEGENERATIVE, "L2 has both keys"),
        (spine(L2=item("L2", {"vertebra": "", "disc": "v3"})), None, "L2 has both keys"),
        (spine(L2=item("L2", {"disc": "v2"})), None, "L2 has only a disc tag"),
        (spine(L2=item("L2", {"vertebra": ""})), None, "L2 has no class"),
        (spine(L2=item("L2", {"vertebra": "v4"})), None, "v4 is no code of a vertebra"),
        (spine(L2=item("L2", {"vertebra": "v1,v2"})), Grade.DEGENERATIVE, "both normal and degenerative"),
    ],
)
def test_class__the_key_that_the_level_implies_is_read_and_faults_noted(
    raw: list[dict[str, Any]], grade: Grade | None, note: str
) -> None:
    reading = read_points(raw)
    assert reading.grades["L2"] is grade
    assert len(reading.notes) == 1
    assert note in reading.notes[0]


@pytest.mark.parametrize("name", ["T12", "T11-T12"])
def test_upper_disc__other_spellings_are_read_and_noted(name: str) -> None:
    first, *others = spine()
    reading = read_points([{**first, "tag": {"identification": name, "disc": "v2"}}, *others])
    assert reading.grades["T12-L1"] is Grade.DEGENERATIVE
    assert reading.notes == (f"{name} is read as T12-L1",)


def test_ten_points__the_missing_one_is_noted() -> None:
    reading = read_points(spine()[1:])
    assert reading.notes == ("no point for T12-L1",)


def test_exchanged_neighbours__are_sorted_along_the_spine_and_noted() -> None:
    places = {level: item(level)["coord"] for level in LEVELS}
    exchanged = spine(L2=item("L2", {"vertebra": "v2"}, places["L2-L3"]), L2_L3=item("L2-L3", coord=places["L2"]))
    reading = read_points(exchanged)
    assert reading.points["L2"] == tuple(places["L2"])
    assert (reading.grades["L2"], reading.grades["L2-L3"]) == (Grade.DEGENERATIVE, Grade.NORMAL)
    assert reading.notes == ("L2 and L2-L3 stood in the wrong order along the spine: exchanged",)


def test_exchanged_names__classes_go_with_the_place() -> None:
    places = {level: item(level)["coord"] for level in LEVELS}
    wrong_names = spine(
        L2=item("L2", {"disc": "v3"}, places["L2-L3"]), L2_L3=item("L2-L3", {"vertebra": "v1"}, places["L2"])
    )
    reading = read_points(wrong_names)
    assert (reading.raw["L2"], reading.raw["L2-L3"]) == ("v1", "v3")
    assert reading.notes == ("L2 and L2-L3 stood in the wrong order along the spine: exchanged",)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([*spine(), item("L6", {"vertebra": "v1"})], "unknown identification 'L6'"),
        ([*spine(), item("L1")], "L1 is annotated twice"),
        (spine(L1=item("L1", coord=[1])), "L1: coordinates"),
        (spine(L1=item("L1", coord=[1, float("nan")])), "not finite"),
        (spine(L1=item("L1", coord=[100, 150])), "do not run down the spine"),
        ([item(level, coord=[100, -LEVELS.index(level)]) for level in LEVELS], "do not run down the spine"),
    ],
)
def test_hopeless_annotations__are_errors_that_say_why(raw: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_points(raw)
