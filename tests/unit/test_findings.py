"""Findings and detections cannot be built invalid, and their JSON comes back unchanged."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.findings import (
    Detection,
    Finding,
    InvalidFindingError,
    ModelIdentity,
    PfirrmannGrade,
    Reason,
    Stage,
    Status,
)

MODEL = ModelIdentity(name="spineone", version="1.0", digest="0f" * 32)


def finding(**changes: Any) -> Finding:
    fields: dict[str, Any] = {
        "structure": Structure.DISC,
        "level": "L4-L5",
        "probability": 0.75,
        "decided": True,
        "x": 120.5,
        "y": 310.25,
        "xyz_mm": (1.0, -20.5, 33.125),
        "localisation_confidence": 0.9,
    }
    return Finding(**{**fields, **changes})


def ten_findings() -> tuple[Finding, ...]:
    return tuple(
        finding(structure=landmark.structure, level=landmark.level, y=100.0 + 20 * k, probability=k / 10)
        for k, landmark in enumerate(READING_ORDER)
    )


def analysed(**changes: Any) -> Detection:
    fields: dict[str, Any] = {
        "study_uid": "1.2",
        "series_uid": "1.2.3",
        "sop_instance_uid": "1.2.3.4",
        "model": MODEL,
        "status": Status.ANALYSED,
        "findings": ten_findings(),
        "ood_score": 0.125,
        "warnings": ("only one slice",),
    }
    return Detection(**{**fields, **changes})


def refused(**changes: Any) -> Detection:
    fields: dict[str, Any] = {
        "study_uid": "1.2",
        "series_uid": "",
        "sop_instance_uid": "",
        "model": MODEL,
        "status": Status.NOT_ANALYSABLE,
        "reason": Reason.NO_SAGITTAL_T2,
        "reason_detail": "3 series: 3 axial",
    }
    return Detection(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"probability": -0.01},
        {"probability": 1.01},
        {"probability": math.nan},
        {"localisation_confidence": 2.0},
        {"localisation_confidence": math.inf},
        {"x": math.nan},
        {"y": math.inf},
        {"xyz_mm": (0.0, math.nan, 0.0)},
        {"signs": (("narrowing", 1.5),)},
        {"signs": (("narrowing", math.nan),)},
    ],
)
def test_values_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidFindingError, match="L4-L5"):
        finding(**changes)


def test_level_of_another_structure() -> None:
    with pytest.raises(ValueError, match="allowed"):
        finding(level="L4")


@pytest.mark.parametrize(
    ("probability", "grade"), [(0.0, Grade.NORMAL), (0.499, Grade.NORMAL), (0.5, Grade.DEGENERATIVE)]
)
def test_class_is_the_likelier(probability: float, grade: Grade) -> None:
    undecided = finding(probability=probability, decided=False)
    assert undecided.grade is grade
    assert undecided.to_json()["class"] == grade.value


def test_json_of_a_finding_has_the_contract_keys() -> None:
    assert finding().to_json() == {
        "structure": "disc",
        "level": "L4-L5",
        "class": "degenerative",
        "decided": True,
        "probability": 0.75,
        "x": 120.5,
        "y": 310.25,
        "xyz_mm": [1.0, -20.5, 33.125],
        "localisation_confidence": 0.9,
        "pfirrmann": None,
        "signs": {},
    }


GRADE = PfirrmannGrade(grade=3, probabilities=(0.05, 0.1, 0.6, 0.2, 0.05))


def test_json_of_a_graded_disc() -> None:
    before = finding(pfirrmann=GRADE, signs=(("narrowing", 0.25), ("modic", 0.5)))
    data = before.to_json()
    assert data["pfirrmann"] == {"grade": 3, "probabilities": [0.05, 0.1, 0.6, 0.2, 0.05]}
    assert data["signs"] == {"narrowing": 0.25, "modic": 0.5}
    assert Finding.from_json(json.loads(json.dumps(data))) == before


def test_json_of_a_finding_from_before_grades_is_read() -> None:
    data = finding().to_json()
    del data["pfirrmann"], data["signs"]
    assert Finding.from_json(data) == finding()


@pytest.mark.parametrize(
    ("grade", "probabilities"),
    [
        (0, GRADE.probabilities),
        (6, GRADE.probabilities),
        (3, (0.5, 0.5)),
        (3, (0.5, 0.5, 0.5, 0, 0)),
        (3, (-0.5, 0.5, 0.5, 0.5, 0)),
        (3, (math.nan, 0.25, 0.25, 0.25, 0.25)),
    ],
)
def test_pfirrmann_out_of_range(grade: int, probabilities: tuple[float, ...]) -> None:
    with pytest.raises(InvalidFindingError, match="Pfirrmann"):
        PfirrmannGrade(grade=grade, probabilities=probabilities)


@given(
    probability=st.floats(0, 1),
    x=st.floats(-1e4, 1e4),
    place=st.tuples(*[st.floats(-1e4, 1e4)] * 3),
)
def test_json_of_a_finding_comes_back(probability: float, x: float, place: tuple[float, float, float]) -> None:
    before = finding(probability=probability, x=x, xyz_mm=place)
    after = Finding.from_json(json.loads(json.dumps(before.to_json())))
    assert after.probability == pytest.approx(before.probability, abs=1e-6)
    assert after.x == pytest.approx(before.x, abs=1e-3)
    assert after.xyz_mm == pytest.approx(before.xyz_mm, abs=1e-3)
    assert (after.structure, after.level, after.decided) == (before.structure, before.level, before.decided)


@pytest.mark.parametrize("detection", [analysed(), refused(), analysed(frame_number=7, ood_score=None)])
def test_json_of_a_detection_comes_back(detection: Detection) -> None:
    line = detection.dumps()
    assert "\n" not in line
    assert Detection.from_json(json.loads(line)) == detection


def test_series_uids_of_a_detection() -> None:
    """One stack may lie under several series; results of before that have only the slice's."""
    several = analysed(series_uids=("1.2.2", "1.2.3"))
    assert several.to_json()["series_uids"] == ["1.2.2", "1.2.3"]
    assert Detection.from_json(several.to_json()) == several
    assert analysed().to_json()["series_uids"] == ["1.2.3"]
    old = {key: value for key, value in analysed().to_json().items() if key != "series_uids"}
    assert Detection.from_json(old).series_uids == ("1.2.3",)
    assert refused().to_json()["series_uids"] == []


def test_json_keys_of_a_detection() -> None:
    contract = {
        "study_uid", "series_uid", "sop_instance_uid", "model", "status", "reason", "findings", "ood_score", "warnings",
    }  # fmt: skip
    assert contract <= set(analysed().to_json())
    assert contract <= set(refused().to_json())
    assert set(MODEL.to_json()) == {"name", "version", "digest"}


@pytest.mark.parametrize(
    "changes",
    [
        {"findings": ()},
        {"findings": ten_findings()[:9]},
        {"findings": ten_findings()[::-1]},
        {"findings": (*ten_findings()[:9], ten_findings()[0])},
        {"reason": Reason.NOT_LUMBAR},
        {"series_uid": ""},
        {"series_uids": ("1.2.9",)},
        {"sop_instance_uid": ""},
    ],
)
def test_an_analysed_study_is_complete(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidFindingError):
        analysed(**changes)


@pytest.mark.parametrize("changes", [{"reason": None}, {"findings": ten_findings()}])
def test_a_refused_study_has_a_reason_and_no_findings(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidFindingError):
        refused(**changes)


def test_analysed_property() -> None:
    assert analysed().analysed
    assert not refused().analysed


@pytest.mark.parametrize("digest", ["", "0f" * 31, "0F" * 32, "zz" * 32, "0f" * 32 + "\n"])
def test_model_digest(digest: str) -> None:
    with pytest.raises(InvalidFindingError, match="digest"):
        replace(MODEL, digest=digest)


@pytest.mark.parametrize("changes", [{"name": ""}, {"version": ""}])
def test_model_needs_name_and_version(changes: dict[str, str]) -> None:
    with pytest.raises(InvalidFindingError):
        replace(MODEL, **changes)


def test_every_reason_has_a_text() -> None:
    assert all(reason.text for reason in Reason)
    assert len({reason.text for reason in Reason}) == len(Reason)


def test_every_reason_shows_before_or_after_the_detector_ran() -> None:
    before = {reason.value for reason in Reason if reason.stage is Stage.BEFORE_ANALYSIS}
    assert before == {
        "no_images",
        "no_sagittal_t2",
        "too_few_slices",
        "unreadable_pixels",
        "invalid_geometry",
        "field_of_view_too_large",
        "field_of_view_too_small",
        "time_limit",
        "two_patients",
    }
    assert {reason.stage for reason in Reason} == set(Stage)


def test_a_reason_is_its_code() -> None:
    for reason in Reason:
        assert Reason(reason.value) is reason
        assert pickle.loads(pickle.dumps(reason)) is reason
        assert json.dumps(reason) == f'"{reason.value}"'
        assert f"{reason}" == str(reason) == reason.value


@pytest.mark.parametrize("change", [{"status": "nonsense"}, {"reason": "because"}])
def test_json_with_unknown_codes_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is not a valid"):
        Detection.from_json({**analysed().to_json(), **change})
