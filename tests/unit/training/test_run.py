"""The training loop: learns, is resumable, refuses what it cannot do; calibration and evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spineone_core.anatomy import Grade, Structure
from spineone_core.detection.calibration import calibrate as apply_calibration
from spineone_core.detection.model_package import load_package
from spineone_core.network.config import NetworkConfig
from tests.fakes.tiny_runs import start
from trainer.datasets import phantoms
from trainer.evaluation import metrics
from trainer.evaluation.calibration import expected_calibration_error, fit_platt
from trainer.evaluation.outcomes import Outcome
from trainer.recipes import paper, shipped
from trainer.samples.augmentation import AugmentationConfig
from trainer.samples.pictures import pictures_of
from trainer.training.averaging import WarmedAverage, share_kept
from trainer.training.keypoint_task import KeypointTask, TrainingData
from trainer.training.learning_rate import learning_rate
from trainer.training.recipe import Recipe
from trainer.training.run import Run
from trainer.training.run_folder import TrainingError


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    network = NetworkConfig(
        backbone="resnet18",
        slices=1,
        width=8,
        decoder_channels=16,
        low_level_channels=8,
        feature_channels=16,
        aspp_rates=(1, 2, 3),
        attention_stride=16,
    )
    small = AugmentationConfig(size=(160, 96), zoom=(0.95, 1.05), shift_mm=5)
    base = shipped()
    return replace(
        base,
        network=network,
        preprocessing=replace(base.preprocessing, spacing_mm=1.75, fused=1),
        decoding=replace(base.decoding, radius_px=3.0),
        augmentation=small,
        batch=2,
        epochs=4,
        warmup_steps=0,
        association_from=0.5,
        phantom_share=0.0,
        average_decay=0.9,
    )


@pytest.fixture(scope="module")
def data(recipe: Recipe) -> TrainingData:
    exams = list(phantoms.read(range(4), slices=1))
    return TrainingData(
        real=[pictures_of(e, recipe.preprocessing, 0) for e in exams], phantoms=[], validation=exams[:1]
    )


def weights(run: Run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.evaluated_network().state_dict().values()])


def test_run__resumed_ends_bit_identical_to_unbroken(recipe: Recipe, data: TrainingData, tmp_path: Path) -> None:
    unbroken = start(recipe, data, tmp_path / "a", seed=1)
    unbroken.fit(validate_every=4)

    broken = start(recipe, data, tmp_path / "b", seed=1)
    broken.open_folder()
    batches = broken.batches()
    broken.train_epoch(batches)
    broken.save()
    broken.train_step(batches)  # lost: killed before the next checkpoint
    resumed = start(recipe, data, tmp_path / "b", seed=1)
    resumed.fit(validate_every=4, resume=True)

    assert resumed.step == unbroken.step == 8
    assert torch.equal(weights(resumed), weights(unbroken))


def test_run__begins_with_a_package_of_the_same_network_only(
    recipe: Recipe, data: TrainingData, tmp_path: Path
) -> None:
    first, second = (start(recipe, data, tmp_path / str(seed), seed=seed) for seed in (1, 2))
    assert not torch.equal(weights(first), weights(second))
    second.begin_with(first.evaluated_network(), [])
    assert torch.equal(weights(first), weights(second))
    wider = start(replace(recipe, network=replace(recipe.network, width=16)), data, tmp_path / "c", seed=1)
    with pytest.raises(TrainingError, match="another network"):
        wider.begin_with(first.evaluated_network(), [])


def test_run__batches_are_of_one_size_and_some_are_tall(recipe: Recipe, data: TrainingData) -> None:
    crops = replace(recipe.augmentation, tall=0.5, tall_size=(224, 96))
    samples = KeypointTask(replace(recipe, augmentation=crops), data).samples(0)
    sizes = [{samples[batch * 2 + i]["images"].shape[1:] for i in range(2)} for batch in range(8)]
    assert all(len(size) == 1 for size in sizes)
    assert set.union(*sizes) == {(160, 96), (224, 96)}


def test_run__loss_falls_and_a_package_comes_out(recipe: Recipe, data: TrainingData, tmp_path: Path) -> None:
    run = start(replace(recipe, epochs=12, learning_rate=4e-3), data, tmp_path, seed=0)
    run.fit(validate_every=12)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]
    assert any("validation" in line for line in lines)
    manifest = load_package(tmp_path / "best").manifest
    assert manifest.training["data_sha256"] == data.fingerprint()
    assert manifest.network == recipe.network


def test_run__refuses_a_used_folder_and_other_data(recipe: Recipe, data: TrainingData, tmp_path: Path) -> None:
    run = start(recipe, data, tmp_path, seed=0)
    run.open_folder()
    run.save()
    with pytest.raises(TrainingError, match="--resume"):
        start(recipe, data, tmp_path, seed=0).fit()
    other = TrainingData(real=data.real[:2], phantoms=[], validation=data.validation)
    with pytest.raises(TrainingError, match=r"training data: .*, now "):
        start(recipe, other, tmp_path, seed=0).fit(resume=True)


def test_average__forgets_its_start_and_ends_at_the_decay() -> None:
    value = 100.0
    for step in range(300):
        kept = share_kept(0.998, step)
        value = value * kept + 1.0 * (1 - kept)
    assert value == pytest.approx(1.0, abs=0.01)
    assert share_kept(0.998, 10**6) == 0.998


def test_average__is_bit_for_bit_that_of_a_loop_over_the_tensors() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5))
    average = WarmedAverage(network, 0.9)
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    for count in range(12):
        with torch.no_grad():
            network(torch.randn(2, 3, 8, 8))  # moves the statistics of the normalisation
            for parameter in network.parameters():
                parameter += torch.randn_like(parameter)
        average.update_parameters(network)
        kept = share_kept(0.9, count)
        for name, value in network.state_dict().items():
            blended = value.is_floating_point() and count > 0  # the first weights are taken over as they are
            expected[name] = expected[name] * kept + value * (1 - kept) if blended else value.clone()
    for name, value in average.module.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert int(average.module[1].num_batches_tracked) == 12


def test_learning_rate__is_the_papers() -> None:
    recipe = paper()
    assert learning_rate(recipe, 0, 25) == learning_rate(recipe, 24, 25) == pytest.approx(0.01)
    assert learning_rate(recipe, 150 * 25 + 7, 25) == pytest.approx(0.01 * 0.5**0.9)
    assert learning_rate(replace(recipe, warmup_steps=10), 0, 25) == pytest.approx(0.001)
    by_step = replace(recipe, decay_by="step")
    assert learning_rate(by_step, 10, 1) == learning_rate(recipe, 10, 1)
    assert learning_rate(by_step, 24, 25) < learning_rate(recipe, 24, 25)


# ---------------------------------------------------------------- metrics and calibration


def outcome(shift_mm: float = 0.0, wrong: tuple[int, ...] = (), refused: bool = False, levels: int = 0) -> Outcome:
    """Discs and vertebrae 18 mm apart; ``shift_mm`` sideways, ``levels`` whole levels down, ``wrong`` rows of wrong class."""
    truth = np.column_stack([np.zeros(10), 18.0 * np.arange(10)])
    grades = tuple(Grade.DEGENERATIVE if i % 4 < 2 else Grade.NORMAL for i in range(10))
    said = np.array([0.9 if (g is Grade.DEGENERATIVE) is (i not in wrong) else 0.1 for i, g in enumerate(grades)])
    predicted = None if refused else truth + np.array([shift_mm, 36.0 * levels])
    return Outcome("e", "p", truth, grades, predicted, None if refused else said)


def test_metrics__perfect_missed_and_shifted_exams() -> None:
    assert metrics.summary([outcome()])["disc_macro_f1"] == 1.0
    assert metrics.pck([outcome(5.9)]) == 1.0
    assert metrics.pck([outcome(6.1)]) == 0.0
    shifted = outcome(levels=1)
    assert metrics.pck([shifted]) == pytest.approx(0.8)
    assert metrics.all_levels_right([shifted, outcome()]) == 0.5
    assert metrics.pck([outcome(refused=True), outcome()]) == 0.5


def test_metrics__paper_counts() -> None:
    # Rows 0, 2, .. are vertebrae: D, N, D, N, D. Row 0 is said to be normal.
    figures = metrics.class_figures([outcome(wrong=(0,))], Structure.VERTEBRA)
    assert (figures[Grade.DEGENERATIVE].tp, figures[Grade.DEGENERATIVE].fp, figures[Grade.DEGENERATIVE].fn) == (2, 0, 0)
    assert (figures[Grade.NORMAL].tp, figures[Grade.NORMAL].fp, figures[Grade.NORMAL].fn) == (2, 1, 0)
    recalls = metrics.recall_by_class([outcome(wrong=(0,))], Structure.VERTEBRA)
    assert recalls[Grade.DEGENERATIVE] == pytest.approx(2 / 3)
    missed = metrics.class_figures([outcome(refused=True)], Structure.DISC)
    assert sum(f.fn for f in missed.values()) == 5


def test_platt__mends_overconfidence() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(0.2, 0.8, 2000)
    labels = (rng.random(2000) < true).astype(float)
    logits = np.log(true / (1 - true))
    overconfident = 1 / (1 + np.exp(-3 * logits))
    calibration = fit_platt(overconfident, labels)
    mended = np.array([apply_calibration(p, calibration) for p in overconfident])
    assert calibration.slope == pytest.approx(1 / 3, abs=0.1)
    assert expected_calibration_error(mended, labels) < 0.05 < expected_calibration_error(overconfident, labels)


def test_platt__needs_both_classes() -> None:
    with pytest.raises(ValueError, match="too few"):
        fit_platt(np.full(20, 0.5), np.ones(20))
