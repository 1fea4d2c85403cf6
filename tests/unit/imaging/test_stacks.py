"""What is one stack: each fact that tells two volumes apart, and each that must not."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spineone_core.findings import NotAnalysable, Reason
from spineone_core.imaging.headers import FrameHeader
from spineone_core.imaging.series import Series, group_series, order_frames
from tests.unit.imaging.test_selection import header

STEP = 4.4
Rule = Callable[[int], dict[str, Any]]


def volume(name: str = "a", slices: int = 15, *, rule: Rule = lambda k: {}, **changes: Any) -> list[FrameHeader]:
    """Headers of a sagittal volume; ``rule`` changes those of slice k. Paths name the volume, so that tests know the truth."""
    frames = []
    for k in range(slices):
        own = {
            "path": Path(name) / f"{k}.dcm",
            "sop_instance_uid": f"1.2.{name.encode().hex()}.{k}",
            "position": (STEP * k, -80.0, 120.0),
            "instance_number": k + 1,
            "acquisition_number": 1,
            "slice_thickness": 4.0,
            "spacing_between_slices": STEP,
            "echo_time": 102.0,
            **changes,
        }
        frames.append(header(**{**own, **rule(k)}))
    return frames


def found(*volumes: list[FrameHeader]) -> list[Series]:
    """Stacks of the volumes, whose headers come in any order."""
    headers = [frame for one in volumes for frame in one]
    random.Random(3).shuffle(headers)
    return group_series(headers)


def truths(stacks: list[Series]) -> list[tuple[str, int]]:
    """(volume, slices) of each stack; a stack of several volumes fails."""
    result = []
    for stack in stacks:
        names = {frame.path.parent.name for frame in stack.frames}
        assert len(names) == 1, names
        result.append((names.pop(), len(stack)))
    return sorted(result)


# ---------------------------------------------------------------- told apart

SLANTED = (
    0.0,
    math.cos(math.radians(3)),
    math.sin(math.radians(3)),
    0.0,
    math.sin(math.radians(3)),
    -math.cos(math.radians(3)),
)
APART: dict[str, dict[str, Any]] = {
    "study": {"study_uid": "9.9"},
    "frame of reference": {"frame_of_reference_uid": "9.9"},
    "kind of object": {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7"},
    "matrix": {"rows": 320},
    "spacing": {"pixel_spacing": (0.76, 0.76)},
    "orientation by 3 degrees": {"orientation": SLANTED},
    "direction of travel": {"orientation": (0.0, -1.0, 0.0, 0.0, 0.0, -1.0)},
    "phase": {"image_type": ("ORIGINAL", "PRIMARY", "P", "ND")},
    "complex component": {"complex_component": "PHASE"},
    "water": {"image_type": ("ORIGINAL", "PRIMARY", "W", "ND")},
    "a kind beyond value 4": {"image_type": ("ORIGINAL", "PRIMARY", "M", "ND", "OPP_PHASE")},
    "derived": {"image_type": ("DERIVED", "PRIMARY", "M", "ND")},
    "echo number": {"echo_number": 2},
    "echo time": {"echo_time": 14.0},
    "echo time by 2 ms": {"echo_time": 104.0},
    "inversion time": {"inversion_time": 150.0},
    "time point": {"temporal_position": 2},
    "b-value": {"b_value": 500.0},
    "no b-value": {"b_value": None},
    "acquisition number": {"acquisition_number": 2},
    "acquisition time": {"acquired_at": "093500"},
    "description": {"series_description": "t2_tse_sag_opp"},
    "normalised or not": {"image_type": ("ORIGINAL", "PRIMARY", "M", "ND", "NORM")},
}
KNOWN = {
    "echo_number": 1,
    "temporal_position": 1,
    "b_value": 0.0,
    "complex_component": "MAGNITUDE",
    "acquired_at": "093000",
}


@pytest.mark.parametrize("name", APART)
def test_two_volumes_at_the_same_positions_are_told_apart_by(name: str) -> None:
    stacks = found(volume("a", **KNOWN), volume("b", **{**KNOWN, **APART[name]}))
    assert truths(stacks) == [("a", 15), ("b", 15)]
    assert not any(stack.fault for stack in stacks)


@pytest.mark.parametrize(
    ("shift", "difference"),
    [
        ((0.0, 0.0, 260.0), "place"),
        ((0.0, 9.0, 0.0), "place"),
        ((15 * STEP + 60.0, 0.0, 0.0), "acquisition"),
        ((1.3, 0.0, 0.0), "acquisition"),
    ],
)
def test_two_stations_are_two_stacks(shift: tuple[float, float, float], difference: str) -> None:
    """Along the patient, within the plane by a little, beside each other, and nearly at the same place; nothing else differs."""
    moved = {k: tuple(a + b for a, b in zip((STEP * k, -80.0, 120.0), shift, strict=True)) for k in range(15)}
    stacks = found(volume("a"), volume("b", rule=lambda k: {"position": moved[k]}))
    assert truths(stacks) == [("a", 15), ("b", 15)]
    assert stacks[0].notes == (f"15 other images of the series are not used: they differ in {difference}",)


@pytest.mark.parametrize("shift", [0.3, 1.0, 2.2, 3.0])
@pytest.mark.parametrize("number", [1, 2])
def test_a_repeat_shifted_along_the_normal_is_never_mixed_in(shift: float, number: int) -> None:
    other = volume("b", rule=lambda k: {"position": (STEP * k + shift, -80.0, 120.0)}, acquisition_number=number)
    for stack in found(volume("a"), other):
        assert len({frame.path.parent.name for frame in stack.frames}) == 1


# ---------------------------------------------------------------- not torn

TOGETHER: dict[str, Rule] = {
    "echo times with noise": lambda k: {"echo_time": (102.4, 102.6)[k % 2]},
    "pixel spacings with noise": lambda k: {"pixel_spacing": (0.66964286 + 1e-5 * (k % 3), 0.6696)},
    "directions with noise": lambda k: {"orientation": (0.0, 1.0, 1e-5 * k, 1e-5 * k, 0.0, -1.0)},
    "times that differ slice by slice": lambda k: {"acquired_at": f"0930{k:02}.25"},
    "acquisition numbers that count slices": lambda k: {"acquisition_number": k + 1},
    "interleaved acquisitions": lambda k: {"acquisition_number": 1 + k % 2},
    "three concatenations": lambda k: {"acquisition_number": 1 + k % 3},
    "two blocks": lambda k: {"acquisition_number": 1 + (k > 7), "acquired_at": ("093000", "093500")[k > 7]},
    "an origin that moves evenly": lambda k: {"position": (STEP * k, -80.0 + 1.3 * k, 120.0)},
    "an origin that moves a little": lambda k: {"position": (STEP * k, -80.0 + 0.2 * k, 120.0)},
    "instance numbers without order": lambda k: {"instance_number": (7 * k) % 15},
    "an echo number that is not everywhere": lambda k: {"echo_number": 1 if k else None},
    "an echo time that is not everywhere": lambda k: {"echo_time": 102.0 if k else None},
    "a frame of reference for each slice": lambda k: {"frame_of_reference_uid": f"1.7.{k}"},
    "a series UID for each slice": lambda k: {"series_uid": f"1.3.{k}"},
    "two series UIDs in turn": lambda k: {"series_uid": f"1.3.{k % 2}"},
    "two series UIDs for two halves": lambda k: {"series_uid": f"1.3.{k > 7}"},
}


@pytest.mark.parametrize("name", TOGETHER)
def test_one_volume_is_one_stack_whatever_differs(name: str) -> None:
    (stack,) = found(volume("a", rule=TOGETHER[name]))
    frames, warnings = order_frames(stack)
    assert [frame.path.name for frame in frames] == [f"{k}.dcm" for k in range(14, -1, -1)]
    assert warnings == []
    assert len(stack.notes) == ("series UID" in name)


@pytest.mark.parametrize("name", TOGETHER)
def test_the_same_repeated_is_two_stacks_and_the_later_is_first(name: str) -> None:
    """The second acquisition has the greater number, or the later time."""
    if "acquisition" in name or "blocks" in name or "three" in name:
        later: Rule = lambda k: {"acquisition_number": TOGETHER[name](k)["acquisition_number"] + 20}  # noqa: E731
    else:
        later = lambda k: {"acquisition_number": 2}  # noqa: E731
    if "slice by slice" in name:
        later = lambda k: {"acquired_at": f"0940{k:02}.25"}  # noqa: E731
    rule = TOGETHER[name]
    stacks = found(volume("a", rule=rule), volume("b", rule=lambda k: {**rule(k), **later(k)}))
    assert truths(stacks) == [("a", 15), ("b", 15)]
    if "series UID" not in name:
        assert stacks[0].first.path.parent.name == "b"


@pytest.mark.parametrize("missing", [{7}, {0, 7}, {3, 4}])
def test_missing_slices_do_not_split(missing: set[int]) -> None:
    frames = [frame for k, frame in enumerate(volume("a")) if k not in missing]
    (stack,) = found(frames)
    assert order_frames(stack)[1] == ["slices are missing or unevenly spaced"]


def test_a_series_uid_for_each_slice_with_one_missing() -> None:
    frames = volume("a", rule=lambda k: {"series_uid": f"1.3.{k}"})
    (stack,) = found(frames[:5] + frames[6:])
    assert len(stack) == 14
    assert "14 Series Instance UIDs" in stack.notes[0]


# ---------------------------------------------------------------- series UIDs that must stay apart

DIFFERENT_SERIES: dict[str, dict[str, Any]] = {
    "description": {"series_description": "T2 SAG other"},
    "repetition time": {"repetition_time": 4000.0},
    "frame of reference": {"frame_of_reference_uid": "9.9"},
    "matrix": {"rows": 320},
    "image type": {"image_type": ("ORIGINAL", "PRIMARY", "M", "DIS2D")},
    "echo time": {"echo_time": 104.0},
}


@pytest.mark.parametrize("name", DIFFERENT_SERIES)
def test_halves_of_two_series_that_differ_are_not_joined(name: str) -> None:
    upper = volume("b", 15, series_uid="1.3.9", **DIFFERENT_SERIES[name])[8:]
    assert truths(found(volume("a", 8), upper)) == [("a", 8), ("b", 7)]


def test_two_series_at_the_same_positions_are_not_joined() -> None:
    stacks = found(volume("a"), volume("b", series_uid="1.3.9", series_number=7))
    assert truths(stacks) == [("a", 15), ("b", 15)]
    assert [stack.notes for stack in stacks] == [(), ()]


def test_two_series_that_do_not_fit_are_not_joined() -> None:
    other = volume("b", series_uid="1.3.9", rule=lambda k: {"position": (STEP * (k + 20), -80.0, 120.0)})
    assert truths(found(volume("a"), other)) == [("a", 15), ("b", 15)]


# ---------------------------------------------------------------- repeated acquisitions, volume by volume


def test_an_aborted_first_acquisition_is_left() -> None:
    stacks = found(volume("a")[:7], volume("b", acquisition_number=2))
    assert [(s.first.path.parent.name, len(s)) for s in stacks] == [("b", 15), ("a", 7)]
    assert stacks[0].notes == ("7 other images of the series are not used: they differ in acquisition",)


def test_an_aborted_second_acquisition_is_left() -> None:
    """Told by time alone: after the first there is a pause."""
    first = volume("a", rule=lambda k: {"acquired_at": f"20260101{93000 + k:06}"})
    second = volume("b", rule=lambda k: {"acquired_at": f"20260101{94000 + k:06}"})[:5]
    assert [(s.first.path.parent.name, len(s)) for s in found(first, second)] == [("a", 15), ("b", 5)]


def test_of_equal_acquisitions_the_later_time_is_first() -> None:
    assert found(volume("a", acquired_at="235500"), volume("b", acquired_at="093000"))[0].first.path.parent.name == "a"


def test_repeated_concatenations_are_put_together_in_succession() -> None:
    first = volume("a", rule=lambda k: {"acquisition_number": 1 + k % 2})
    second = volume("b", rule=lambda k: {"acquisition_number": 3 + k % 2})
    assert truths(found(first, second)) == [("a", 15), ("b", 15)]


@pytest.mark.parametrize(
    "rule", [lambda k: {"acquired_at": f"0930{k:02}"}, lambda k: {}, lambda k: {"instance_number": 16 + k}]
)
def test_what_nothing_tells_apart_is_no_stack(rule: Rule) -> None:
    """Two pictures at each position that share every attribute of a volume: neither is taken."""
    times: Rule = lambda k: {"acquired_at": f"0930{(7 * k) % 15:02}"} if rule(0).get("acquired_at") else {}  # noqa: E731
    stacks = found(volume("a", rule=rule), volume("b", rule=lambda k: {**times(k), "window": (5.0 + k, 9.0)}))
    (stack,) = stacks
    assert len(stack) == 1
    assert "no attribute tells apart" in stack.fault
    with pytest.raises(NotAnalysable, match="no attribute tells apart") as caught:
        order_frames(stack)
    assert caught.value.reason is Reason.INVALID_GEOMETRY
    assert "29 other images" in stack.notes[0]


def test_numbers_of_acquisitions_and_of_slices_are_not_compared() -> None:
    """Number 1 is the whole first acquisition, but only the first slice of the second, which would fill a gap of the first."""
    first = volume("a", 7)[1:]
    second = volume("b", rule=lambda k: {"acquisition_number": k + 1})
    assert all(len({frame.path.parent for frame in stack.frames}) == 1 for stack in found(first, second))


def test_a_slice_sent_again_is_a_copy() -> None:
    frames = volume("a")
    again = [replace(frames[k], sop_instance_uid=f"1.9.{k}", path=Path("a") / f"again{k}.dcm") for k in (2, 9)]
    (stack,) = found(frames, again)
    assert len(stack) == 15
    assert [copy.path.name for copy in stack.copies] == ["again2.dcm", "again9.dcm"]
    assert stack.notes == ("2 slices at duplicate positions left out: copies under another UID",)


# ---------------------------------------------------------------- no geometry


@pytest.mark.parametrize(
    "changes", [{"position": None}, {"orientation": None}, {"orientation": (0.0,) * 6}, {"pixel_spacing": None}]
)
def test_slices_without_geometry_are_apart_and_said(changes: dict[str, Any]) -> None:
    stacks = found(volume("a"), volume("b", 2, **changes))
    assert truths(stacks) == [("a", 15), ("b", 2)]
    assert stacks[0].notes[0].startswith("2 other images of the series are not used: they differ in ")


def test_the_order_of_headers_does_not_matter() -> None:
    headers = volume("a") + volume("b", acquisition_number=2) + volume("c", series_uid="1.4")
    expected = group_series(headers)
    for seed in range(5):
        random.Random(seed).shuffle(headers)
        assert group_series(headers) == expected
