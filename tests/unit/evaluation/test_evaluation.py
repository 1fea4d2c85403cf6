"""Evaluation: curves by hand, figures by group, the report with its worst cases, and exams whose points are no centroids."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.detection.calibration import Calibration
from spineone_core.detection.model_package import Manifest
from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.network.config import NetworkConfig
from tests.fakes.spine_files import write_sdid
from tests.unit.datasets.test_readers import single
from trainer.datasets import sdid_tc
from trainer.datasets.exam import Exam
from trainer.evaluation.curves import confidences_and_misses, ordering, reliability, risk_coverage
from trainer.evaluation.evaluation import Evaluation, without_nan
from trainer.evaluation.outcomes import Outcome
from trainer.evaluation.plots import pck_plot

MANIFEST = Manifest(
    name="tiny",
    version="1",
    network=NetworkConfig(),
    preprocessing=PreprocessingConfig(slices=7),
    calibration={"disc": Calibration(undecided=(0.3, 0.7), error_rate=0.1)},
)


def test_reliability__by_hand() -> None:
    bins = reliability(np.array([0.05, 0.05, 0.95, 1.0]), np.array([0, 1, 1, 1.0]))
    assert [tuple(b) for b in bins] == [(0.05, 0.5, 2), (0.975, 1.0, 2)]


def test_risk_coverage__by_hand_with_ties_together() -> None:
    curve = risk_coverage(np.array([0.9, 0.8, 0.8, 0.1]), np.array([False, True, False, True]))
    assert curve.coverage.tolist() == [0.25, 0.75, 1.0]
    assert curve.risk.tolist() == pytest.approx([0, 1 / 3, 0.5])
    assert curve.area == pytest.approx(0.5 / 3 + 0.25 * 0.5)
    assert np.isnan(risk_coverage(np.zeros(0), np.zeros(0, dtype=bool)).area)


def test_ordering__is_the_chance_that_a_hit_is_surer() -> None:
    assert ordering(np.array([0.9, 0.8, 0.3]), np.array([False, False, True])) == 1.0
    assert ordering(np.array([0.5, 0.5]), np.array([False, True])) == 0.5
    assert np.isnan(ordering(np.array([0.5]), np.array([False])))


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Exam:
    folder = tmp_path_factory.mktemp("one")
    write_sdid(folder)
    return single(sdid_tc.read(folder))


def outcome_of(exam: Exam, *, shift: float = 0.0, probability: float = 0.1, refused: bool = False) -> Outcome:
    truth = exam.point_array
    found = None if refused else truth + np.array([shift, 0.0])
    said = None if refused else np.full(10, probability)
    confidence = None if refused else np.full(10, 0.9 - shift / 100)
    reason = "not_lumbar" if refused else ""
    return Outcome(exam.exam_id, exam.patient, truth, exam.grade_row, found, said, confidence, reason)


@pytest.fixture
def evaluation(exam: Exam) -> Evaluation:
    """Ten good exams, one 9 mm off, one refused, one of undecided discs, of another maker, and one without centroids."""
    found = Evaluation(MANIFEST, "tiny 1, part: test")
    for k in range(10):
        good = replace(exam, exam_id=f"a/{k}", patient=f"p{k}", subset="a")
        found.add(good, outcome_of(good))
    off = replace(exam, exam_id="b/off", patient="p10", subset="b")
    found.add(off, outcome_of(off, shift=9.0))
    refused = replace(exam, exam_id="b/refused", patient="p11", subset="b")
    found.add(refused, outcome_of(refused, refused=True))
    undecided = replace(
        exam, exam_id="b/undecided", patient="p12", subset="b", manufacturer="Other", field_strength_t=3.0
    )
    found.add(undecided, outcome_of(undecided, probability=0.62))
    points = {level: exam.points[level] for level in ("L1-L2", "L4-L5")}
    canal = replace(exam, exam_id="c/canal", subset="c", points=points, grades={}, centroids=False)
    found.add(
        canal,
        replace(outcome_of(canal), predicted=exam.point_array + np.array([17.0, 0.0]), probabilities=np.full(10, 0.1)),
    )
    return found


def test_figures__by_group(evaluation: Evaluation) -> None:
    figures = evaluation.figures()
    assert set(figures) == {"a", "b", "c", "all real"}
    assert figures["c"] == {"exams": 1, "refused": 0, "disc_levels_by_nearest": 1.0}
    assert figures["all real"]["exams"] == 13
    assert figures["all real"]["refused"] == 1
    assert figures["b"]["pck6_level_strict"] == pytest.approx(1 / 3)
    assert figures["b"]["disc_undecided"] == 1.0
    assert figures["b"]["disc_normal_called_other"] == 0.0
    assert figures["b"]["vertebra_normal_called_other"] == 1.0
    assert figures["a"]["disc_undecided"] == 0.0


def test_tables__by_level_and_scanner(evaluation: Evaluation) -> None:
    level = evaluation.by_level()["L3-L4"]
    assert (level["keypoints"], level["class_known"]) == (13, 12)
    assert level["pck6_level_strict"] == pytest.approx(11 / 13)
    assert level["class_right"] == pytest.approx(11 / 12)
    assert level["undecided"] == pytest.approx(1 / 12)
    assert {name: len(cases) for name, cases in evaluation.by_scanner().items()} == {
        "1.5 T": 12,
        "3 T": 1,
        "Other": 1,
        "Scanner Works": 12,
    }


def test_confidences__a_refusal_is_a_sure_miss(evaluation: Evaluation) -> None:
    outcomes = [case.outcome for case in evaluation.main_cases()]
    confidences, missed = confidences_and_misses(outcomes, Structure.DISC)
    assert len(confidences) == 65
    assert missed.sum() == 10
    assert confidences[missed].max() < confidences[~missed].min()
    assert ordering(confidences, missed) == 1.0


def test_report__is_one_file_with_curves_and_worst_cases(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.write(tmp_path, 20, ["Model digest 0."])
    html = (tmp_path / "evaluation.html").read_text()
    assert "Worst cases (2 exams)" in html
    assert "Refused (1)" in html
    assert "<td>not_lumbar</td><td>1</td>" in html
    assert html.count("data:image/svg+xml;base64,") == 3
    assert "http" not in html.replace("http://www.w3.org", "")
    content = json.loads((tmp_path / "evaluation.json").read_text())
    low, high = content["intervals"]["all real"]["pck6_level_strict"]
    assert low <= 11 / 13 <= high
    assert low < high
    assert set(content["levels"]) == {landmark.level for landmark in READING_ORDER}
    assert content["scanners"]["Other"]["exams"] == 1
    curve = {"disc": {1.0: 0.5, 2.0: 0.75}}
    assert pck_plot(curve) == pck_plot(curve)


def test_report__of_exams_without_centroids_alone(exam: Exam, tmp_path: Path) -> None:
    found = Evaluation(MANIFEST, "levels only")
    canal = replace(exam, grades={}, centroids=False)
    found.add(canal, outcome_of(canal, shift=17.0))
    found.write(tmp_path, 50)
    assert json.loads((tmp_path / "evaluation.json").read_text())["figures"] == {
        exam.subset: {"exams": 1, "refused": 0, "disc_levels_by_nearest": 1.0}
    }


def test_json__has_no_nan() -> None:
    assert without_nan({"a": float("nan"), "b": [1.0, float("inf")], "c": (2, "x")}) == {
        "a": None,
        "b": [1.0, None],
        "c": [2, "x"],
    }
    assert Grade.NORMAL in without_nan([Grade.NORMAL])
