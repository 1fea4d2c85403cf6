"""Points and classes of an SDID-TC annotation; every fault that real files have is named (readings 18, 20)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spineone_core.anatomy import READING_ORDER, UPPER_DISC, VERTEBRAE, Grade

# Spellings of the upper disc in real files.
_UPPER_DISC_NAMES = {"T12-L1", "T11-T12", "T12"}
# In their order down the spine.
LEVELS = (UPPER_DISC, *(landmark.level for landmark in READING_ORDER))
CODES = {"vertebra": {"v1", "v2"}, "disc": {"v1", "v2", "v3", "v4", "v5"}}

Point = tuple[float, float]
Tag = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Annotation:
    """What an annotation says about each level: (column, row), class and its own codes; and what was odd in it."""

    points: dict[str, Point]
    grades: dict[str, Grade | None]
    raw: dict[str, str]
    notes: tuple[str, ...]


def read_points(raw: list[dict[str, Any]]) -> Annotation:
    """Points and grades by level name; the tag is read under the key that the identification implies (reading 20).

    Neighbours in the wrong order along the spine are exchanged, and a note says so.

    Raises
    ------
    ValueError
        If an identification is unknown or comes twice, coordinates are no pair of numbers, or the order is wrong in a way that
        exchanging neighbours does not mend.
    """
    notes: list[str] = []
    found: dict[str, tuple[Point, Tag]] = {}
    for item in raw:
        level = _level(item, notes)
        if level in found:
            raise ValueError(f"{level} is annotated twice")
        found[level] = _coordinates(item, level), dict(item["tag"])
    found = _in_order({level: found[level] for level in LEVELS if level in found}, notes)
    absent = [level for level in LEVELS if level not in found]
    if absent:
        notes.append(f"no point for {', '.join(absent)}")
    grades, codes = {}, {}
    for level, (_, tag) in found.items():
        codes[level] = read_codes(level, tag, notes)
        grades[level] = read_grade(codes[level], kind_of(level))
    return Annotation({level: point for level, (point, _) in found.items()}, grades, codes, tuple(notes))


def _level(item: dict[str, Any], notes: list[str]) -> str:
    name = str(item["tag"]["identification"]).strip()
    level = UPPER_DISC if name in _UPPER_DISC_NAMES else name
    if level not in LEVELS:
        raise ValueError(f"unknown identification {name!r}")
    if level != name:
        notes.append(f"{name} is read as {level}")
    return level


def _coordinates(item: dict[str, Any], level: str) -> Point:
    try:
        column, row = (float(value) for value in item["coord"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{level}: coordinates {item['coord']!r} are no pair of numbers") from error
    if not (math.isfinite(column) and math.isfinite(row)):
        raise ValueError(f"{level}: coordinates {item['coord']!r} are not finite")
    return column, row


def _in_order(found: dict[str, tuple[Point, Tag]], notes: list[str]) -> dict[str, tuple[Point, Tag]]:
    """The points with neighbours exchanged where that, and only that, puts all of them in order down the spine."""
    levels = list(found)
    places = np.array([point for point, _ in found.values()]).reshape(-1, 2)
    half = max(1, len(places) // 2)
    axis = (
        np.median(places[-half:], axis=0) - np.median(places[:half], axis=0)
        if len(places) > 1
        else np.array([0.0, 1.0])
    )
    order = np.argsort(places @ axis, kind="stable")
    if axis[1] <= 0 or np.abs(order - np.arange(len(order))).max(initial=0) > 1:
        raise ValueError("the points do not run down the spine in the order of their names")
    result = {}
    for k, source in enumerate(order):
        tag = found[levels[k]][1]
        if source != k:
            other = found[levels[source]][1]
            # If the names are wrong and not the places, the classes show it: their key is that of the right name.
            tag = other if _fits(levels[k], other) and not _fits(levels[k], tag) else tag
            if source > k:
                notes.append(f"{levels[k]} and {levels[source]} stood in the wrong order along the spine: exchanged")
        result[levels[k]] = found[levels[source]][0], tag
    return result


def kind_of(level: str) -> str:
    """The key of a level's class in the annotation."""
    return "vertebra" if level in VERTEBRAE else "disc"


def _fits(level: str, tag: Tag) -> bool:
    return bool(tag.get(kind_of(level)))


def read_codes(level: str, tag: Tag, notes: list[str]) -> str:
    """The class codes of a level, such as ``v2,v5``; what is odd about them goes into the notes."""
    kind = kind_of(level)
    other = "disc" if kind == "vertebra" else "vertebra"
    codes = str(tag.get(kind) or "").strip()
    if other in tag and kind in tag:
        notes.append(f"{level} has both keys, {kind} {codes!r} and {other} {tag[other]!r}: {kind} is read")
    elif other in tag:
        notes.append(f"{level} has only a {other} tag, {tag[other]!r}: its class is unknown")
    elif not codes and level != UPPER_DISC:
        notes.append(f"{level} has no class")
    values = _split(codes)
    if unknown := values - CODES[kind]:
        notes.append(f"{level}: {', '.join(sorted(unknown))} is no code of a {kind}: its class is unknown")
    if "v1" in values and len(values) > 1:
        notes.append(f"{level} is called both normal and degenerative ({codes}): read as degenerative")
    return codes


def read_grade(codes: str, kind: str) -> Grade | None:
    """``v1`` is normal and any other code of the ``kind`` degenerative; without a code, or with an unknown one, it is unknown."""
    values = _split(codes)
    if not values or values - CODES[kind]:
        return None
    return Grade.NORMAL if values == {"v1"} else Grade.DEGENERATIVE


def _split(codes: str) -> set[str]:
    return {code.strip() for code in codes.split(",") if code.strip()}
