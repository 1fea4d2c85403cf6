"""Readers, splits, pictures and augmentation of the trainer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.detection.preprocessing import PreprocessingConfig, prepare
from spineone_core.phantom.dicom import write_exam
from spineone_core.phantom.exam import make_phantom
from trainer.datasets import phantoms, sdid_tc
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.sdid_points import kind_of
from trainer.datasets.splits import SplitError, read_splits, select
from trainer.samples import augmentation
from trainer.samples.appearance import AppearanceConfig, change_appearance, tone_curve
from trainer.samples.augmentation import (
    PAPER,
    STRONG,
    AugmentationConfig,
    Picture,
    Sample,
    augment,
    centre_cut,
    darkest_of,
)
from trainer.samples.pictures import pictures_of
from trainer.samples.targets import Targets


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One phantom in the SDID-TC layout, every series in one folder, as real studies lie."""
    folder = tmp_path_factory.mktemp("lumbar")
    exam = write_exam(folder / "study1", 3)
    points = [
        {"coord": list(exam.points[level]), "tag": {"identification": level, kind_of(level): "v2"}, "zIndex": 5}
        for level in ("T12-L1", *(landmark.level for landmark in READING_ORDER))
    ]
    series = {
        "seriesUid": exam.series_uid,
        "instanceUid": exam.sop_instance_uid,
        "annotation": {"annotator": 1, "data": {"point": points}},
    }
    missing = {"studyUid": "1.2.3", "data": [{"seriesUid": "1.2", "instanceUid": "1.2", "annotation": []}]}
    studies = [{"studyUid": exam.study_uid, "version": "v0.1", "data": series}, missing]
    (folder / "annotation.json").write_text(json.dumps(studies), encoding="utf-8")
    return folder


def test_reader__yields_the_exam_and_says_what_is_missing(dataset: Path) -> None:
    exam, skipped = list(sdid_tc.read(dataset))
    assert isinstance(exam, Exam)
    assert exam.patient == str(pydicom.dcmread(exam.volume.sources[0].path).PatientID)
    assert exam.slice_index == exam.volume.middle_index
    assert set(exam.grades.values()) == {Grade.DEGENERATIVE}
    assert isinstance(skipped, Skipped)
    assert "not there" in skipped.why


def test_reader__names_a_missing_annotation_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"annotation\.json"):
        next(sdid_tc.read(tmp_path))


def test_splits__patients_stand_in_one_part_and_in_the_file(tmp_path: Path, dataset: Path) -> None:
    exam = next(sdid_tc.read(dataset))
    assert isinstance(exam, Exam)
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"train": [exam.patient], "test": ["B"]}))
    assert select([exam], read_splits(path), "train") == [exam]
    assert select([exam], read_splits(path), "test") == []
    with pytest.raises(SplitError, match="allowed"):
        select([exam], read_splits(path), "holdout")
    path.write_text(json.dumps({"train": ["A"], "test": ["A"]}))
    with pytest.raises(SplitError, match="A stands in train and in test"):
        read_splits(path)
    path.write_text(json.dumps({"train": ["A"]}))
    with pytest.raises(SplitError, match="no part"):
        select([exam], read_splits(path), "train")


def test_phantom_exams__have_all_levels_and_differ_by_seed() -> None:
    first, second = phantoms.read(range(5, 7), slices=1)
    assert first.patient != second.patient
    assert len(first.volume.voxels) == 1
    assert make_phantom(5, slices=1).points["L3"] == first.points["L3"]


def test_pictures__one_a_slice_within_reach_the_annotated_first() -> None:
    (exam,) = phantoms.read(range(8, 9), slices=5)
    preprocessing = PreprocessingConfig(spacing_mm=0.875, slices=1)
    assert len(pictures_of(exam, preprocessing, 0.0)) == 1
    near = pictures_of(exam, preprocessing, 1.5 * exam.volume.slice_step)
    assert len(near) == 3
    assert np.array_equal(near[0].images, pictures_of(exam, preprocessing, 0.0)[0].images)


def dotted_picture() -> Picture:
    """Ten bright dots on black, one at each keypoint."""
    points = np.column_stack([np.linspace(140, 180, 10), np.linspace(60, 340, 10)])
    y, x = np.mgrid[:400, :320]
    image = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / 18) for px, py in points)
    grades = tuple(Grade.NORMAL if i % 3 else Grade.DEGENERATIVE for i in range(10))
    return Picture(np.clip(image, 0, 1).astype(np.float16)[None], 0.6, points, grades)


GEOMETRY = AugmentationConfig(
    size=STRONG.size,
    flip=0.5,
    zoom=STRONG.zoom,
    rotation_deg=STRONG.rotation_deg,
    shift_mm=STRONG.shift_mm,
    slide_mm=STRONG.slide_mm,
    mirrored=0.5,
    shear=STRONG.shear,
)


def drawn(sample: Sample, structure: Structure) -> Targets:
    return sample.marks[structure].draw(sample.images.shape[-2:], 6.0)


@pytest.mark.parametrize("seed", range(6))
def test_augmentation__targets_follow_the_picture(seed: int) -> None:
    sample = augment(dotted_picture(), 0.875, GEOMETRY, np.random.default_rng(seed))
    assert sample.images.shape == (1, 320, 256)
    for structure in Structure:
        targets = drawn(sample, structure)
        assert targets.heatmap.sum() > 100
        brightness = sample.images[0]
        dots = np.argwhere(targets.heatmap.max(axis=0) * (np.abs(targets.offsets).sum(axis=0) < 0.12))
        assert len(dots) >= 2
        assert np.mean([brightness[r, c] for r, c in dots]) > np.percentile(brightness, 98)


def test_augmentation__is_deterministic_and_normalised() -> None:
    first, second = (augment(dotted_picture(), 0.875, STRONG, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(first.images, second.images)
    assert abs(float(first.images.mean())) < 0.5
    flat = AugmentationConfig(size=(64, 64))
    assert augment(dotted_picture(), 4.0, flat, np.random.default_rng(0)).images.shape == (1, 64, 64)


def test_augmentation__a_crop_without_the_lowest_disc_names_nothing() -> None:
    config = replace(GEOMETRY, partial=1.0)
    samples = [augment(dotted_picture(), 0.875, config, np.random.default_rng(seed)) for seed in range(20)]
    totals = [sum(float(drawn(sample, s).heatmap.sum()) for s in Structure) for sample in samples]
    below = [bool(s.points[-1, 1] > config.size[0] - 1) for s in samples]
    above = [bool(s.points[0, 1] < 0) for s in samples]
    assert any(below)
    assert any(above)
    for total, no_sacrum, no_top in zip(totals, below, above, strict=True):
        assert (total == 0) == no_sacrum
        assert no_sacrum or no_top


def test_augmentation__the_mirrored_part_lies_above_and_holds_no_keypoint() -> None:
    picture = dotted_picture()
    picture.images[0, 10:14, 100:110] = 1
    config = AugmentationConfig(size=(512, 320), mirrored=1.0, zoom=(1, 1), shift_mm=0, slide_mm=0)
    sample = augment(picture, 0.6, config, np.random.default_rng(0))
    rows = np.argwhere(sample.images[0] > 0.8 * sample.images[0].max())[:, 0]
    assert rows.min() < sample.points[:, 1].min() - 55
    assert drawn(sample, Structure.VERTEBRA).heatmap.sum() == pytest.approx(5 * 113, abs=15)


@pytest.mark.parametrize("change", [{"tone": 0.5}, {"coarse": 1.0}, {"wrap": 1.0}, {"metal": 1.0}, {"saturation": 1.0}])
def test_appearance__changes_the_picture_and_keeps_its_shape_and_range(change: dict[str, float]) -> None:
    images = dotted_picture().images.astype(np.float32) + 0.1
    points = dotted_picture().points
    plain, changed = (
        change_appearance(images, points, 0.6, config, np.random.default_rng(3))
        for config in (AppearanceConfig(), AppearanceConfig(**change))
    )
    assert changed.shape == plain.shape
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    assert np.abs(changed - plain).max() > 0.05


def test_tone_curve__rises_and_keeps_both_ends() -> None:
    ramp = np.linspace(0, 1, 101, dtype=np.float32)[None, None]
    curve = tone_curve(ramp, 0.8, np.random.default_rng(0))[0, 0]
    assert curve[0] == 0
    assert curve[-1] == pytest.approx(1)
    assert (np.diff(curve) > 0).all()
    assert np.abs(curve - ramp[0, 0]).max() > 0.02


# ---------------------------------------------------------------- the paper's crops


def test_paper__crops_lie_anywhere_on_the_canvas_of_640_pixels() -> None:
    """Reading 5: cut or padded to 640 x 640 first; a zoom of .7 leaves 448 pixels in the middle of the crop (reading 25)."""
    bright = np.ones((1, 700, 500), np.float16)
    bright[0, 350, 250] = -1  # padding is as dark as the darkest pixel
    picture = Picture(bright, 0.4375, np.tile([250.0, 350.0], (10, 1)), (None,) * 10)
    rng = np.random.default_rng(0)
    large = replace(PAPER, zoom=(1.3, 1.3), flip=0.0)
    middles = np.array([augment(picture, 0.4375, large, rng).points[0] for _ in range(200)])
    # 640 * 1.3 = 832 pixels leave 160 to each side of the crop's middle.
    assert middles.min() >= 255.5 - 161
    assert middles.max() <= 255.5 + 161
    assert np.ptp(middles, axis=0).min() > 250
    small = replace(PAPER, zoom=(0.7, 0.7), flip=0.0)
    sample = augment(picture, 0.4375, small, rng)
    rows, columns = np.nonzero(sample.images[0] > sample.images[0].min())
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == pytest.approx((448, 350), abs=2)
    assert sample.points[0] == pytest.approx([255.5, 255.5], abs=1)


@pytest.mark.parametrize(("slices", "fused"), [(7, 1), (1, 3)])
def test_training__sees_the_grey_values_that_the_detector_sees(slices: int, fused: int) -> None:
    """The same function on both sides: what training shows of a picture is what inference makes of it, padding included."""
    (exam,) = phantoms.read(range(8, 9), slices=9)
    preprocessing = PreprocessingConfig(spacing_mm=0.875, slices=slices, fused=fused)
    at_work = prepare(exam.volume, preprocessing, middle=exam.slice_index)
    (picture,) = pictures_of(exam, preprocessing, 0.0)
    rows, columns = at_work.grid.rows, at_work.grid.columns
    side = max(rows, columns) // 2 * 2 + 64
    plain = AugmentationConfig(size=(side, side), canvas=side, zoom=(1, 1))  # the whole picture, in the middle
    sample = augment(picture, 0.875, plain, np.random.default_rng(0))
    top, left = (side - rows) // 2, (side - columns) // 2
    shown = sample.images[:, top : top + rows, left : left + columns]
    wanted = at_work.images[fused // 2, :, :rows, :columns]
    assert np.abs(shown - wanted)[:, 2:-2, 2:-2].mean() < 0.06
    assert (shown.mean(), shown.std()) == pytest.approx((0, 1), abs=0.03)
    # Padding is as dark as at work, and counts on neither side.
    assert sample.images[:, 0, 0] == pytest.approx(at_work.images.min(), abs=0.02)
    assert sample.points == pytest.approx(at_work.grid.to_grid(exam.point_array) + np.array([left, top]), abs=1.0)


def test_training__padding_does_not_change_the_grey_values_of_a_changed_crop() -> None:
    whole = replace(STRONG, partial=0.0, mirrored=0.0, zoom=(1.0, 1.0), rotation_deg=0.0, shear=0.0, border=0.0)
    small, large = (replace(whole, size=size, tall=0.0) for size in ((224, 160), (480, 448)))
    means = [
        float(np.median([augment(dotted_picture(), 0.875, c, np.random.default_rng(s)).images.max() for s in range(8)]))
        for c in (small, large)
    ]
    assert means[0] == pytest.approx(means[1], rel=0.3)


def test_paper__zoom_is_uniform() -> None:
    """Half of the pictures of [.7, 1.3] are magnified less than 1; of the logarithm, .58."""
    picture = Picture(
        np.ones((1, 700, 700), np.float16), 0.4375, np.array([[100.0 * i, 350.0] for i in range(10)]), (None,) * 10
    )
    rng = np.random.default_rng(0)
    still = replace(PAPER, size=(32, 32), flip=0.0)
    zooms = [np.diff(augment(picture, 0.4375, still, rng).points[:2, 0])[0] / 100 for _ in range(400)]
    assert np.mean(zooms) == pytest.approx(1.0, abs=0.02)
    assert (min(zooms), max(zooms)) == pytest.approx((0.7, 1.3), abs=0.02)
    with pytest.raises(ValueError, match="ratio, factor"):
        AugmentationConfig(zoom_by="other")


def test_centre_cut__keeps_points_on_their_pixels() -> None:
    images = (np.arange(100 * 80) % 251).reshape(1, 100, 80).astype(np.float16)
    picture = Picture(images, 0.5, np.tile([41.0, 52.0], (10, 1)), (None,) * 10)
    cut = centre_cut(picture, 20.0)
    assert cut.images.shape == (1, 40, 40)
    column, row = cut.points[0].astype(int)
    assert cut.images[0, row, column] == images[0, 52, 41]
    assert centre_cut(picture, 45.0).images.shape == (1, 90, 80)


def test_augmentation__of_discs_alone_leaves_the_vertebra_branch_out() -> None:
    whole = dotted_picture()
    points = whole.points.copy()
    points[::2] = np.nan  # vertebrae
    grades = tuple(grade if i % 2 else None for i, grade in enumerate(whole.grades))
    sample = augment(replace(whole, points=points, grades=grades), 0.875, STRONG, np.random.default_rng(3))
    assert drawn(sample, Structure.VERTEBRA).weight.sum() == 0
    assert drawn(sample, Structure.VERTEBRA).heatmap.sum() == 0
    assert drawn(sample, Structure.DISC).weight.all()
    assert drawn(sample, Structure.DISC).heatmap.sum() > 100
    assert np.isfinite(sample.images).all()


# ---------------------------------------------------------------- what the loader saves


@pytest.mark.parametrize("values", [[-2.5, 0.0, 3.0], [0.5, 7.0], [-0.0, 0.0], [-1.0, -6e4, 65504.0]])
def test_darkest__is_the_least(values: list[float]) -> None:
    images = np.array(values, np.float16).reshape(1, 1, -1)
    assert darkest_of(images) == images.min()


@pytest.mark.parametrize("seed", range(8))
def test_warp__of_what_the_crop_shows_is_that_of_the_whole_picture(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops at the edge and beyond it, blurred and not, against the same with nothing left out."""
    config = replace(STRONG, size=(96, 64), zoom=(0.4, 1.5), blur=3.0, slide_mm=200.0, shift_mm=200.0, partial=0.5)
    part = augment(dotted_picture(), 0.875, config, np.random.default_rng(seed)).images
    monkeypatch.setattr(augmentation, "_seen", lambda places, length, reach: slice(0, length))
    whole = augment(dotted_picture(), 0.875, config, np.random.default_rng(seed)).images
    assert np.abs(part - whole).max() < 2e-3
