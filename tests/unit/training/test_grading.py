"""Training of the grading networks: it learns what there is to learn; folds keep patients apart and can be resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spineone_core.anatomy import DISCS, Grade, Structure
from spineone_core.network.grading import GradingConfig, GradingLogits
from trainer.datasets import phantoms
from trainer.datasets.gradings import DiscGrading
from trainer.evaluation.located import LocatedExam, judged_of
from trainer.samples.graded import CropChanges, GradedExam, graded_exam
from trainer.training import cross_validation
from trainer.training.cross_validation import cross_validate, fold_of, load_members
from trainer.training.grading import GradingRecipe, fit_grading, loss_terms
from trainer.training.run_folder import TrainingError

SIGNS = ("modic", "upper_endplate", "lower_endplate", "narrowing", "bulging")
TINY = GradingRecipe(
    name="tiny",
    network=GradingConfig(structure=Structure.DISC, crop_px=16, width=4),
    changes=CropChanges(jitter_mm=1.0),
    epochs=2,
    batch=2,
)


def gradings_of(exam: Any) -> dict[str, DiscGrading]:
    """As a reader would grade the phantom by its classes."""
    return {
        level: DiscGrading(4 if exam.grades[level] is Grade.DEGENERATIVE else 2, dict.fromkeys(SIGNS, 0))
        for level in DISCS
    }


@pytest.fixture(scope="module")
def training() -> list[GradedExam]:
    return [graded_exam(e, gradings_of(e), TINY.network.spacing_mm) for e in phantoms.read(range(4), slices=1)]


def located(training: list[GradedExam]) -> list[LocatedExam]:
    return [LocatedExam(g.exam, g.gradings, g.exam.point_array, g.exam.slice_index) for g in training]


def test_fit__learns_dark_discs_from_bright_ones(training: list[GradedExam]) -> None:
    recipe = replace(TINY, epochs=25, learning_rate=1e-2)
    seen: list[int] = []
    lines: list[str] = []
    network = fit_grading(training, recipe, seed=0, every=10, look=lambda e, n: seen.append(e), log=lines.append)
    assert seen == [10, 20, 25]
    assert lines[-1].startswith("epoch 25 of 25, class ")
    grades = {e.exam.exam_id: cross_validation.grade(network, e.crops(recipe.network)) for e in located(training)}
    found = judged_of(located(training), grades, recipe.network, {})
    assert ((found.raw > 0.5) == (found.labels > 0)).mean() >= 0.9
    assert ((found.said_pfirrmann >= 3) == (found.pfirrmann >= 3)).mean() >= 0.9


def test_fit__depends_on_the_seed_alone(training: list[GradedExam]) -> None:
    first, again, other = (fit_grading(training, TINY, seed=s, log=lambda line: None) for s in (1, 1, 2))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert not torch.equal(first.direct.weight, other.direct.weight)


def test_fit__says_what_is_lacking() -> None:
    with pytest.raises(TrainingError, match="no graded exam"):
        fit_grading([], TINY, seed=0)


def test_losses__count_what_is_known_and_nothing_else() -> None:
    logits = GradingLogits(torch.zeros(1, 5), torch.zeros(1, 5, 4), torch.zeros(1, 5, 5))
    unknown = GradingLogits(*(torch.full_like(part, torch.nan) for part in logits))
    assert {float(value) for value in loss_terms(logits, unknown, TINY).values()} == {0.0}
    known = unknown._replace(direct=torch.tensor([[1.0, torch.nan, torch.nan, torch.nan, torch.nan]]))
    assert float(loss_terms(logits, known, TINY)["class"]) == pytest.approx(np.log(2))
    halved = loss_terms(logits, unknown._replace(signs=torch.ones(1, 5, 5)), replace(TINY, sign_weight=0.5))
    assert float(halved["signs"]) == pytest.approx(np.log(2) / 2)


def test_folds__hold_each_patient_once_and_are_even() -> None:
    patients = [f"p{n}" for n in range(23)] * 2
    part = fold_of(patients, 5)
    sizes = [list(part.values()).count(fold) for fold in range(5)]
    assert sorted(sizes) == [4, 4, 5, 5, 5]
    assert fold_of(reversed(patients), 5) == part
    assert fold_of(patients, 5, seed=1) != part


def test_cross_validation__never_learns_from_whom_it_grades(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, training: list[GradedExam]
) -> None:
    """SPACE exams of a patient are held out with the T2 exam: here two exams of each patient, one measured."""
    patients = ["a", "b", "a", "b"]
    both = [replace(g, exam=replace(g.exam, patient=patient)) for g, patient in zip(training, patients, strict=True)]
    learned: list[set[str]] = []

    def watched(exams: list[GradedExam], *args: Any, **words: Any) -> Any:
        learned.append({graded.exam.patient for graded in exams})
        return fit_grading(exams, *args, **words)

    monkeypatch.setattr(cross_validation, "fit_grading", watched)
    measured = located(both)[:2]
    result = cross_validate(both, measured, TINY, tmp_path, folds=2, every=1, log=lambda line: None)
    part = fold_of(patients, 2)
    assert learned == [{p for p in "ab" if part[p] != fold} for fold in range(2)]
    assert sorted(result) == [1, 2]
    assert set(result[2]) == {e.exam.exam_id for e in measured}
    # The network of the patient's own fold gave the grades, and its weights are kept.
    members = load_members(tmp_path, TINY.network, 2)
    for one in measured:
        again = cross_validation.grade(members[part[one.exam.patient]], one.crops(TINY.network))
        assert again["direct"] == pytest.approx(result[2][one.exam.exam_id]["direct"], abs=1e-5)


def test_cross_validation__goes_on_where_it_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, training: list[GradedExam]
) -> None:
    measured = located(training)
    whole = cross_validate(training, measured, TINY, tmp_path, folds=2, log=lambda line: None)
    (tmp_path / "fold1.json").unlink()
    again = cross_validate(training, measured, TINY, tmp_path, folds=2, log=lambda line: None)
    assert again == whole

    def never(*args: Any, **words: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(cross_validation, "fit_grading", never)
    assert cross_validate(training, measured, TINY, tmp_path, folds=2, log=lambda line: None) == whole
    with pytest.raises(TrainingError, match="fold 0 has another recipe, seed or data"):
        cross_validate(training, measured, replace(TINY, soft_bulge=0.7), tmp_path, folds=2, log=lambda line: None)


def test_cross_validation__begins_with_the_network_that_saw_as_little(
    tmp_path: Path, training: list[GradedExam]
) -> None:
    vertebrae = replace(
        TINY, network=replace(TINY.network, structure=Structure.VERTEBRA), begin_with=Structure.DISC, learning_rate=1e-9
    )
    quiet: dict[str, Any] = {"folds": 2, "log": lambda line: None}
    with pytest.raises(TrainingError, match=r"fold0\.json: cannot be read"):
        cross_validate(training, located(training), vertebrae, tmp_path / "v", begin=tmp_path / "d", **quiet)
    cross_validate(training, located(training), TINY, tmp_path / "d", **quiet)
    cross_validate(training, located(training), vertebrae, tmp_path / "v", begin=tmp_path / "d", **quiet)
    before, after = (load_members(tmp_path / n, r.network, 2) for n, r in (("d", TINY), ("v", vertebrae)))
    for first, then in zip(before, after, strict=True):
        # Nothing is learned at such a rate.
        assert torch.allclose(first.mix[0].weight, then.mix[0].weight, atol=1e-6)
        assert then.sign.weight.shape != first.sign.weight.shape
    assert not torch.allclose(after[0].mix[0].weight, after[1].mix[0].weight, atol=1e-3)
    moved = [replace(g, exam=replace(g.exam, patient=f"other {n}")) for n, g in enumerate(training)]
    with pytest.raises(TrainingError, match="fold 0 holds out other patients"):
        cross_validate(moved, located(moved), vertebrae, tmp_path / "w", begin=tmp_path / "d", **quiet)
