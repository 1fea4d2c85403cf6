"""Every definition of precision, recall and F1; confusion; PCK curve; intervals by patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from spineone_core.anatomy import Grade, Structure
from trainer.evaluation import metrics
from trainer.evaluation.bootstrap import bootstrap_interval
from trainer.evaluation.outcomes import Outcome
from trainer.reproduce import scores
from trainer.reproduce.scores import Score
from trainer.training.keypoint_task import validation_score

N, D = Grade.NORMAL, Grade.DEGENERATIVE
DISC = Structure.DISC


def outcome(
    *,
    shift: dict[int, float] | None = None,
    wrong: tuple[int, ...] = (),
    unknown: tuple[int, ...] = (),
    patient: str = "p",
) -> Outcome:
    """18 mm apart; discs are the odd rows, D at 1, 3, 5 and N at 7, 9. ``shift`` moves rows sideways, ``wrong`` swaps classes."""
    truth = np.column_stack([np.zeros(10), 18.0 * np.arange(10)])
    grades: list[Grade | None] = [D if i < 6 else N for i in range(10)]
    said = np.array([0.9 if (g is D) is (i not in wrong) else 0.1 for i, g in enumerate(grades)])
    predicted = truth.copy()
    for row, mm in (shift or {}).items():
        predicted[row, 0] += mm
    for row in unknown:
        grades[row] = None
    return Outcome("e", patient, truth, tuple(grades), predicted, said)


def refused(patient: str = "p") -> Outcome:
    good = outcome(patient=patient)
    return Outcome("e", patient, good.truth, good.grades, None, None)


def test_confusion__by_hand() -> None:
    table = metrics.confusion([outcome(shift={1: 7.0}, wrong=(3, 9)), refused()], DISC)
    assert table == {
        N: {"normal": 1, "degenerative": 1, "missed": 2},
        D: {"normal": 1, "degenerative": 1, "missed": 4},
    }


def test_definitions__by_hand() -> None:
    # Row 1 (D) is missed by 7 mm, its output says D; row 3 (D) is said N, row 9 (N) is said D; 5 and 7 are right.
    found = metrics.definitions([outcome(shift={1: 7.0}, wrong=(3, 9))], DISC)
    # Section IV-B: D: TP 1 (row 5), FP 1 (row 9), FN 1 (row 1); N: TP 1 (row 7), FP 1 (row 3), FN 0.
    assert found["paper_macro_precision"] == pytest.approx(0.5)
    assert found["paper_macro_recall"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["paper_macro_f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["paper_macro_f1_of_means"] == pytest.approx(2 * 0.5 * 0.75 / 1.25)
    assert found["paper_micro_precision"] == pytest.approx(2 / 4)
    assert found["paper_micro_recall"] == pytest.approx(2 / 3)
    # Every output and every keypoint: D: TP 1, FP 2, of 3; N: TP 1, FP 1, of 2.
    assert found["usual_macro_precision"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found["usual_macro_recall"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found["usual_micro_precision"] == found["usual_micro_recall"] == pytest.approx(2 / 5)


def test_micro_precision__counts_outputs_beyond_six_mm_as_false() -> None:
    assert metrics.micro_precision([outcome(shift={1: 7.0}, wrong=(3, 9))], DISC) == pytest.approx(2 / 5)
    assert metrics.micro_precision([outcome(), refused()]) == 1.0
    assert metrics.micro_precision([refused()]) == 0.0


def test_unknown_class__counts_nowhere() -> None:
    table = metrics.confusion([outcome(unknown=(1,))], DISC)
    assert sum(sum(row.values()) for row in table.values()) == 4
    assert metrics.micro_precision([outcome(unknown=(1,), wrong=(1,))], DISC) == 1.0


def test_pck_curve__rises_with_the_distance() -> None:
    curve = metrics.pck_curve([outcome(shift={1: 2.5, 3: 7.0})], structure=DISC)
    assert list(curve) == list(range(1, 11))
    assert (curve[2], curve[3], curve[6], curve[7]) == (0.6, 0.8, 0.8, 1.0)


def test_level_not_annotated__counts_nowhere() -> None:
    partly = outcome(wrong=(3,))
    for row in (1, 3):
        partly.truth[row] = np.nan
    assert metrics.pck([partly]) == metrics.all_levels_right([partly]) == metrics.micro_precision([partly]) == 1.0
    assert len(metrics.errors_mm([partly])) == 8
    assert sum(sum(row.values()) for row in metrics.confusion([partly], DISC).values()) == 3
    assert metrics.definitions([partly], DISC)["usual_macro_f1"] == 1.0
    assert "L1-L2" not in metrics.errors_by_level(partly)
    assert metrics.class_figures([refused()], DISC)[D].fn == 3


def test_levels_by_nearest__needs_no_centroids() -> None:
    beside = outcome(shift=dict.fromkeys(range(10), 17.0))
    assert metrics.pck([beside]) == 0.0
    assert metrics.levels_by_nearest([beside]) == 1.0
    assert metrics.levels_by_nearest([beside, refused()], DISC) == 0.5
    one_up = outcome()
    one_up.truth[:, 1] += 36.0
    # The lowest vertebra and disc stay nearest to the lowest prediction.
    assert metrics.levels_by_nearest([one_up]) == pytest.approx(0.2)


def test_bootstrap__draws_patients_not_exams() -> None:
    many = [outcome(patient="a") for _ in range(5)] + [refused(patient="b") for _ in range(5)]
    low, high, _ = bootstrap_interval(many, metrics.pck, samples=200)
    # Two patients: a sample has none, half or all of either.
    assert (low, high) == (0.0, 1.0)
    spread = [outcome(patient=str(i)) if i % 2 else refused(patient=str(i)) for i in range(40)]
    low, high, _ = bootstrap_interval(spread, metrics.pck, samples=500)
    assert 0.3 < low < 0.45 < 0.55 < high < 0.7
    assert bootstrap_interval(spread, metrics.pck, samples=500)[:2] == (low, high)


@pytest.mark.parametrize("change", [{"samples": 5}, {"level": 1.0}])
def test_bootstrap__names_what_is_allowed(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        bootstrap_interval([outcome()], metrics.pck, **change)  # type: ignore[arg-type]


# ---------------------------------------------------------------- classes that do not occur


def of_one_class(grade: Grade, called: tuple[int, ...] = ()) -> Outcome:
    """All keypoints are of one class; the rows ``called`` are said to be of the other."""
    whole = outcome()
    said = np.array([0.9 if (grade is D) is (i not in called) else 0.1 for i in range(10)])
    return replace(whole, grades=(grade,) * 10, probabilities=said)


def test_macro__a_class_that_does_not_occur_is_left_out_and_its_false_calls_are_printed() -> None:
    perfect, some = of_one_class(D), of_one_class(D, called=(3, 9))
    assert metrics.macro_f1([perfect], DISC) == metrics.definitions([perfect], DISC)["usual_macro_f1"] == 1.0
    assert metrics.summary([perfect])["disc_macro_f1_paper"] == 1.0
    assert metrics.macro_f1([some], DISC) == pytest.approx(2 * 0.6 / 1.6)
    assert metrics.false_calls([some], DISC) == {N: 2}
    assert metrics.summary([some])["disc_normal_does_not_occur_false_calls"] == 2
    assert not any("does_not_occur" in name for name in metrics.summary([outcome()]))
    nothing = replace(perfect, grades=(None,) * 10)
    assert math.isnan(metrics.macro_f1([nothing], DISC))


def test_bootstrap__draws_without_a_class_are_dropped_and_counted() -> None:
    few = [replace(of_one_class(grade), patient=str(n)) for n, grade in enumerate((D, D, D, N))]

    def figure(drawn: Sequence[Outcome]) -> float:
        return metrics.macro_f1(drawn, DISC)

    def classes(drawn: Sequence[Outcome]) -> int:
        return len(metrics.occurring(drawn, DISC))

    low, high, dropped = bootstrap_interval(few, figure, samples=400, classes=classes)
    assert (low, high) == (1.0, 1.0)
    # No N in four draws of four: (3/4)^4 = .32; no D: (1/4)^4 = .004.
    assert dropped / 400 == pytest.approx(0.32, abs=0.07)
    measured = scores.six_scores(few)
    assert measured[2].dropped / scores.SAMPLES == pytest.approx(0.32, abs=0.05)
    assert (measured[2].value, measured[2].low) == (1.0, 1.0)
    assert scores.six_scores(few[:3])[2] == Score(1.0, 1.0, 1.0)
    assert "no disc is truly normal: not in the means; called so 0 times" in scores.remarks(few[:3])
    assert scores.remarks(few) == ""


# ---------------------------------------------------------------- the choice of the best


def test_best__is_chosen_by_log_loss_of_the_class() -> None:
    sure, unsure = of_one_class(D), replace(of_one_class(D), probabilities=np.full(10, 0.55))
    assert metrics.class_log_loss([sure]) == pytest.approx(-math.log(0.9))
    assert metrics.class_log_loss([refused()]) == pytest.approx(math.log(2))
    assert metrics.macro_f1([sure], DISC) == metrics.macro_f1([unsure], DISC)
    assert validation_score(metrics.summary([sure])) > validation_score(metrics.summary([unsure]))
    assert validation_score(metrics.summary([sure])) == pytest.approx(2.9)
    unknown = replace(sure, grades=(None,) * 10)
    assert validation_score(metrics.summary([unknown])) == 2.0
