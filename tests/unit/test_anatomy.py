"""Levels, structures and reading order."""

from __future__ import annotations

import dataclasses

import pytest

from spineone_core.anatomy import (
    DISCS,
    READING_ORDER,
    UPPER_DISC,
    VERTEBRAE,
    Grade,
    Landmark,
    Structure,
    levels_of,
)


def test_reading_order_goes_down_and_alternates() -> None:
    names = [landmark.name for landmark in READING_ORDER]
    assert names == ["L1", "L1-L2", "L2", "L2-L3", "L3", "L3-L4", "L4", "L4-L5", "L5", "L5-S1"]
    structures = [landmark.structure for landmark in READING_ORDER]
    assert structures == [Structure.VERTEBRA, Structure.DISC] * 5


def test_each_disc_lies_below_its_vertebra() -> None:
    for vertebra, disc in zip(VERTEBRAE, DISCS, strict=True):
        assert disc.startswith(f"{vertebra}-")


@pytest.mark.parametrize(("structure", "levels"), [(Structure.DISC, DISCS), (Structure.VERTEBRA, VERTEBRAE)])
def test_levels_of(structure: Structure, levels: tuple[str, ...]) -> None:
    assert levels_of(structure) == levels
    assert levels_of(Structure(structure.value)) == levels


@pytest.mark.parametrize(
    ("structure", "level"),
    [
        (Structure.DISC, "L4"),
        (Structure.VERTEBRA, "L4-L5"),
        (Structure.DISC, UPPER_DISC),
        (Structure.VERTEBRA, "S1"),
        (Structure.VERTEBRA, ""),
        (Structure.VERTEBRA, "l4"),
    ],
)
def test_a_level_belongs_to_its_structure(structure: Structure, level: str) -> None:
    with pytest.raises(ValueError, match="allowed"):
        Landmark(structure, level)


def test_unknown_structure() -> None:
    with pytest.raises(ValueError, match="rib"):
        levels_of("rib")  # type: ignore[arg-type]


def test_channel_order_of_grades() -> None:
    assert list(Grade) == [Grade.NORMAL, Grade.DEGENERATIVE]


def test_landmarks_are_values() -> None:
    first, second = Landmark(Structure.VERTEBRA, "L4"), Landmark(Structure.VERTEBRA, "L4")
    assert first == second
    assert len({first, second}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.level = "L5"  # type: ignore[misc]
