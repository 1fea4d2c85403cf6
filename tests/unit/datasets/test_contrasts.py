"""Real slices in another contrast: what becomes bright and dark, by masks of both kinds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spineone_core.phantom.config import DEMO_CONFIG
from trainer.datasets import contrasts, negatives, phantoms
from trainer.datasets.contrasts import MaskMaker, Recoloured, by_growing, by_shape, recoloured
from trainer.datasets.exam import Exam

POSTERIOR = np.array([1.0, 0.0])
MAKERS = [by_shape, by_growing]


@pytest.fixture(scope="module")
def exam() -> Exam:
    """An upright T2 phantom without artefacts, all discs well hydrated."""
    config = replace(
        DEMO_CONFIG, artefacts=0.0, matrix=(320,), tilt=0.0, disc_rates=dict.fromkeys(DEMO_CONFIG.disc_rates, 0.0)
    )
    (found,) = phantoms.read(range(5, 6), slices=3, config=config)
    return found


def made(exam: Exam, contrast: Recoloured, masks_by: MaskMaker, seed: int = 0) -> np.ndarray:
    image, spacing = exam.volume.voxels[exam.slice_index], exam.volume.pixel_spacing[0]
    rng = np.random.default_rng(seed)
    found = recoloured(image, exam.point_array, spacing, contrast, rng, posterior=POSTERIOR, masks_by=masks_by)
    assert found is not None
    return found


def level_mean(picture: np.ndarray, exam: Exam, names: tuple[str, ...], shift_px: float = 0.0) -> float:
    """Mean grey value around the points of some levels, or so many pixels behind them."""
    values = [
        picture[round(y) - 1 : round(y) + 2, round(x + shift_px) - 1 : round(x + shift_px) + 2].mean()
        for x, y in (exam.points[name] for name in names)
    ]
    return float(np.mean(values))


DISCS, BODIES = ("L1-L2", "L2-L3", "L3-L4", "L4-L5"), ("L1", "L2", "L3", "L4")


@pytest.mark.parametrize("masks_by", MAKERS)
@pytest.mark.parametrize("seed", range(3))
def test_recoloured__water_has_bright_discs_and_dark_fat_and_fat_the_reverse(
    exam: Exam, masks_by: MaskMaker, seed: int
) -> None:
    water, fat = made(exam, "water", masks_by, seed), made(exam, "fat", masks_by, seed)
    canal = 26.0 / exam.volume.pixel_spacing[0]
    assert level_mean(water, exam, DISCS) > 1.15 * level_mean(water, exam, BODIES)
    assert level_mean(fat, exam, DISCS) < 0.85 * level_mean(fat, exam, BODIES)
    assert level_mean(water, exam, BODIES, canal) > level_mean(fat, exam, BODIES, canal)
    t2 = exam.volume.voxels[exam.slice_index]
    bright = t2 > np.percentile(t2, 97)  # subcutaneous fat, and some CSF
    assert water[bright].mean() < 0.85 * fat[bright].mean()
    assert water.dtype == np.float32
    assert min(water.min(), fat.min()) >= 0
    assert max(water.max(), fat.max()) < 3


def test_recoloured__the_same_seed_gives_the_same_picture(exam: Exam) -> None:
    assert np.array_equal(made(exam, "water", by_shape, 4), made(exam, "water", by_shape, 4))
    assert not np.array_equal(made(exam, "water", by_shape, 4), made(exam, "water", by_shape, 5))


def test_recoloured__plain_t2_by_masks_stays_t2(exam: Exam) -> None:
    t2 = exam.volume.voxels[exam.slice_index]
    assert np.corrcoef(made(exam, "t2", by_shape).ravel(), t2.ravel())[0, 1] > 0.8
    assert np.corrcoef(made(exam, "water", by_shape).ravel(), t2.ravel())[0, 1] < 0.6


def test_recoloured__needs_all_ten_points(exam: Exam) -> None:
    points = exam.point_array
    points[3] = np.nan
    rng = np.random.default_rng(0)
    assert recoloured(exam.volume.voxels[0], points, 1.0, "water", rng, posterior=POSTERIOR) is None


@pytest.mark.parametrize("masks_by", MAKERS)
def test_recoloured__a_spine_at_the_border_and_a_posterior_left(exam: Exam, masks_by: MaskMaker) -> None:
    """Points beyond the picture (upper levels, sacrum) are left out; a mirrored picture gives the mirrored one."""
    rows = round(exam.points["L5-S1"][1]) + 8
    first = round(exam.points["L1"][1]) - 8
    image = exam.volume.voxels[exam.slice_index, first:rows]
    points, spacing = exam.point_array - [0, first], exam.volume.pixel_spacing[0]
    made_here = recoloured(
        image, points, spacing, "water", np.random.default_rng(1), posterior=POSTERIOR, masks_by=masks_by
    )
    mirrored = points * [-1, 1] + [image.shape[1] - 1, 0]
    other = recoloured(
        image[:, ::-1], mirrored, spacing, "water", np.random.default_rng(1), posterior=-POSTERIOR, masks_by=masks_by
    )
    assert made_here is not None
    assert other is not None
    assert np.abs(made_here - other[:, ::-1]).mean() < 0.02


def test_spine__goes_on_above_and_turns_backwards_below(exam: Exam) -> None:
    spine = contrasts.spine_of(exam.point_array, POSTERIOR, (320, 320))
    assert spine is not None
    assert len(spine.points) == spine.added + 14
    assert [spine.is_disc(i) for i in (spine.added, spine.added + 1, spine.added + 9)] == [False, True, True]
    assert [spine.is_sacral(i) for i in (spine.added + 9, spine.added + 10)] == [False, True]
    assert spine.points[0][1] < 20
    sacral = np.diff(spine.points[-4:], axis=0)
    assert (np.diff(sacral[:, 0] / sacral[:, 1]) > 0).all()
    assert (spine.behind @ POSTERIOR > 0).all()


def test_spoiled__recolours_the_slices_near_the_annotated_one(exam: Exam) -> None:
    found = {item.kind: item.volume for item in negatives.spoiled(exam, 3)}
    assert {"water-like", "fat-like"} <= set(found)
    for kind in ("water-like", "fat-like"):
        positions = found[kind].positions
        assert len(positions) == len(found[kind].sources) == len(found[kind].voxels)
        assert np.abs(positions - exam.volume.positions[exam.slice_index]).max() <= negatives.RECOLOURED_MM
