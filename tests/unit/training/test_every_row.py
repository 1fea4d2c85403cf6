"""Every detector of Table I trains: a few steps on one small batch lower its loss. A tiny SpineOne learns phantoms by heart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spineone_core.anatomy import Structure
from spineone_core.detection.levels import DecodingConfig
from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.network.config import NetworkConfig
from spineone_core.network.rows import Row, distinct_rows, seven_categories, table_one
from spineone_core.network.spineone import SpineOne
from tests.fakes.tiny_runs import SPACING, shrunk
from trainer.datasets import phantoms
from trainer.datasets.exam import Exam
from trainer.evaluation.metrics import all_levels_right, confusion, pck
from trainer.evaluation.outcomes import Outcome, outcome_of, outcomes_of
from trainer.recipes import find_recipe, paper_row, shipped
from trainer.samples.augmentation import AugmentationConfig
from trainer.samples.pictures import pictures_of
from trainer.training.keypoint_task import KeypointTask, TrainingData
from trainer.training.options import RunOptions
from trainer.training.run import Run


@pytest.fixture(scope="module")
def exams() -> list[Exam]:
    return list(phantoms.read(range(2), slices=1))


@pytest.mark.parametrize("row", [*table_one(), seven_categories()], ids=lambda row: row.name)
def test_row__lowers_its_loss(row: Row, exams: list[Exam], tmp_path: Path) -> None:
    recipe = shrunk(row)
    data = TrainingData(
        real=[pictures_of(e, recipe.preprocessing, 0) for e in exams], phantoms=[], validation=exams[:1]
    )
    task = KeypointTask(recipe, data)
    run = Run(task, tmp_path, seed=0, options=RunOptions(device="cpu"))
    batch, losses = next(run.batches()), []
    for _ in range(16 if "hourglass104" in row.name else 6):
        run.step = 0  # the same rate again
        losses.append(float(sum(run.train_step(iter([batch])).values())))
    assert losses[-1] < 0.9 * losses[0]
    outcome = outcome_of(evaluated(run), task.manifest({}, {}), exams[0], run.device)
    assert outcome.predicted is None or np.isfinite(outcome.predicted).all()


def test_recipes__paper_and_stable_for_every_row() -> None:
    for row in distinct_rows():
        recipe = paper_row(row)
        assert recipe.preprocessing.slices == row.network.slices
        assert (recipe.association_from < 1) is row.association
        assert (recipe.decoding.merge, recipe.decoding.assignment) == ("max", "top_five")
        assert find_recipe(f"stable/{row.name}").network == row.network


@pytest.mark.parametrize("name", ["other", "paper/other"])
def test_recipes__unknown_names_say_what_is_allowed(name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown .* 'other'; allowed: "):
        find_recipe(name)


def test_recipe__refuses_slices_that_do_not_meet() -> None:
    with pytest.raises(ValueError, match="7 slices, preprocessing gives 3"):
        replace(find_recipe("paper"), preprocessing=PreprocessingConfig(slices=3))


def test_upper_disc__is_background_or_ignored(exams: list[Exam]) -> None:
    recipe = shrunk(table_one()[-1])
    assert "T12-L1" in exams[0].points
    weights = []
    for choice in ("background", "ignore"):
        chosen = replace(recipe, upper_disc=choice)
        data = TrainingData(
            real=[pictures_of(e, chosen.preprocessing, 0) for e in exams], phantoms=[], validation=exams[:1]
        )
        sample = KeypointTask(chosen, data).samples(0).draw(0, np.random.default_rng(0))
        discs = sample.marks[Structure.DISC].draw((128, 64), chosen.decoding.radius_px)
        weights.append(float(discs.weight.min()))
    assert weights == [1.0, 0.0]
    with pytest.raises(ValueError, match="background, ignore"):
        replace(recipe, upper_disc="other")


def test_tiny_spineone__learns_phantoms_by_heart(tmp_path: Path) -> None:
    """All ten levels, PCK-6 = 100 % and every class right, with PAM, CAM and objective association on."""
    learned = [exam for seed in (3, 5) for exam in phantoms.read(range(seed, seed + 1), slices=1)]
    recipe = replace(
        shipped(),
        network=NetworkConfig(
            backbone="resnet18",
            slices=1,
            width=16,
            decoder_channels=48,
            low_level_channels=16,
            feature_channels=32,
            aspp_rates=(1, 2, 4),
            aspp_pooling=True,
            attention_stride=8,
        ),
        preprocessing=PreprocessingConfig(spacing_mm=SPACING, slices=1),
        decoding=DecodingConfig(radius_px=2.5),
        augmentation=AugmentationConfig(size=(160, 128), zoom=(1, 1), shift_mm=0),
        batch=len(learned),
        epochs=160,
        learning_rate=6e-3,
        warmup_steps=15,
        average_decay=0.9,
        phantom_share=0.0,
        association_from=0.1,
    )
    data = TrainingData(
        real=[pictures_of(e, recipe.preprocessing, 0) for e in learned], phantoms=[], validation=learned
    )
    task = KeypointTask(recipe, data)
    run = Run(task, tmp_path, seed=0, options=RunOptions(device="cpu"))
    batches, outcomes = run.batches(), list[Outcome]()
    while run.step < run.steps and not all_right(outcomes):
        run.train_step(batches)
        if run.step >= 60 and run.step % 20 == 0:
            outcomes = outcomes_of(evaluated(run), task.manifest({}, {}), learned, run.device)
    assert all_right(outcomes)


def evaluated(run: Run) -> SpineOne:
    network = run.evaluated_network()
    assert isinstance(network, SpineOne)
    return network


def all_right(outcomes: list[Outcome]) -> bool:
    """Every keypoint within 6 mm at its own level and of the right class."""
    tables = [(grade, row) for s in Structure for grade, row in confusion(outcomes, s).items()]
    wrong = sum(count for grade, row in tables for said, count in row.items() if said != grade.value)
    return bool(outcomes) and pck(outcomes) == all_levels_right(outcomes) == 1.0 and wrong == 0
