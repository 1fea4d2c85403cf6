"""The phantom: repeatable, its truth right, its statistics those of real exams, its geometry consistent."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from spineone_core.anatomy import DISCS, READING_ORDER, UPPER_DISC, VERTEBRAE, Grade
from spineone_core.phantom.anatomy import DISC_RATES, VERTEBRA_RATES, make_patient
from spineone_core.phantom.config import DEFAULT_CONFIG, DEMO_CONFIG, PhantomConfig
from spineone_core.phantom.exam import PhantomExam, make_phantom
from spineone_core.phantom.tissues import TISSUES

SMALL = PhantomConfig(matrix=(256,))
ALONG_SPINE = (UPPER_DISC, *(landmark.level for landmark in READING_ORDER))


@pytest.fixture(scope="module")
def exams() -> list[PhantomExam]:
    """Thirty exams of one slice."""
    return [make_phantom(seed, config=SMALL, slices=1) for seed in range(30)]


@pytest.fixture(scope="module")
def whole() -> PhantomExam:
    return make_phantom(5, config=SMALL)


def places(exam: PhantomExam) -> np.ndarray:
    """(11, 3) patient coordinates down the spine."""
    middle = exam.volume.middle_index
    return np.array([exam.volume.to_patient(middle, *exam.points[name]) for name in ALONG_SPINE])


# ---------------------------------------------------------------- repeatable


def test_the_same_seed_gives_the_same_exam() -> None:
    first, second = make_phantom(11, config=SMALL, slices=3), make_phantom(11, config=SMALL, slices=3)
    np.testing.assert_array_equal(first.volume.voxels, second.volume.voxels)
    np.testing.assert_array_equal(first.volume.origins, second.volume.origins)
    assert first.points == second.points
    assert first.grades == second.grades
    assert first.volume.sources == second.volume.sources


def test_other_seeds_give_other_exams() -> None:
    first, second = make_phantom(1, config=SMALL, slices=1), make_phantom(2, config=SMALL, slices=1)
    assert first.points != second.points
    assert first.volume.study_uid != second.volume.study_uid


def test_another_config_has_other_uids() -> None:
    first, second = (make_phantom(1, config=c, slices=1) for c in (SMALL, replace(SMALL, artefacts=0.2)))
    assert first.volume.study_uid != second.volume.study_uid
    assert first.volume.sources[0].sop_instance_uid != second.volume.sources[0].sop_instance_uid


@pytest.mark.parametrize("slices", [1, 3, 7])
def test_a_part_is_the_middle_of_the_whole(whole: PhantomExam, slices: int) -> None:
    part = make_phantom(5, config=SMALL, slices=slices)
    middle = whole.volume.middle_index
    first = middle - (slices - 1) // 2
    np.testing.assert_array_equal(part.volume.voxels, whole.volume.voxels[first : first + slices])
    assert part.points == whole.points
    assert part.volume.middle_index == (slices - 1) // 2


def test_more_slices_than_there_are_gives_all(whole: PhantomExam) -> None:
    assert len(make_phantom(5, config=SMALL, slices=99).volume.voxels) == len(whole.volume.voxels)


@pytest.mark.parametrize(("seed", "slices"), [(-1, None), (0, 0), (0, -3)])
def test_impossible_arguments(seed: int, slices: int | None) -> None:
    with pytest.raises(ValueError, match=">="):
        make_phantom(seed, slices=slices)


# ---------------------------------------------------------------- truth


def test_all_points_lie_in_the_picture(exams: list[PhantomExam]) -> None:
    for exam in exams:
        rows, columns = exam.volume.voxels.shape[1:]
        assert set(exam.points) == {UPPER_DISC, *VERTEBRAE, *DISCS}
        assert set(exam.grades) == {*VERTEBRAE, *DISCS}
        for x, y in exam.points.values():
            assert 2 < x < columns - 3
            assert 2 < y < rows - 3


def test_points_go_down_the_spine(exams: list[PhantomExam]) -> None:
    for exam in exams:
        heights = places(exam)[:, 2]
        assert np.all(np.diff(heights) < 0)


def test_points_lie_where_the_anatomy_puts_them(exams: list[PhantomExam]) -> None:
    for exam in exams:
        parts = [exam.patient.disc(n).part for n in (UPPER_DISC, *DISCS)]
        parts += [exam.patient.body(n).part for n in VERTEBRAE]
        middle = exam.volume.middle_index
        for part in parts:
            centre = exam.plan.pose @ np.array([part.lateral, part.y, part.z]) + exam.plan.shift
            expected = np.array(exam.volume.from_patient(centre, middle))
            found = np.array(exam.points[part.name])
            # Wedge, osteophytes and rotation move a centroid off the part's centre, by little.
            assert np.linalg.norm(found - expected) * exam.plan.spacing < 5.0


def test_points_are_centroids_of_what_is_seen() -> None:
    """Without artefacts a healthy bright disc is brighter at its point than the endplates above and below."""
    config = replace(SMALL, artefacts=0.0, matrix=(512,), disc_rates=dict.fromkeys(DISCS, 0.0))
    exam = make_phantom(3, config=config, slices=1)
    image, spacing = exam.volume.voxels[0], exam.plan.spacing
    for name in DISCS:
        part, (x, y) = exam.patient.disc(name).part, exam.points[name]
        disc = image[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].mean()
        edge = (part.height / 2 + 1.5) / spacing
        plates = [image[round(y + s * edge) - 2 : round(y + s * edge) + 3, round(x)].min() for s in (-1, 1)]
        assert disc > 1.5 * max(plates)


def test_a_degenerative_disc_is_darker() -> None:
    """Healthy discs against degenerative ones of the same patients."""
    bright, dark = [], []
    for rate, values in ((0.0, bright), (1.0, dark)):
        config = replace(SMALL, artefacts=0.0, disc_rates=dict.fromkeys(DISCS, rate))
        for seed in range(6):
            exam = make_phantom(seed, config=config, slices=1)
            assert {exam.grades[name] for name in DISCS} == {Grade.DEGENERATIVE if rate else Grade.NORMAL}
            image = exam.volume.voxels[0]
            for name in DISCS:
                x, y = exam.points[name]
                values.append(image[round(y), round(x)] / np.percentile(image, 99))
    assert np.median(dark) < 0.7 * np.median(bright)


# ---------------------------------------------------------------- statistics of real exams


def test_disc_to_disc_distance(exams: list[PhantomExam]) -> None:
    steps = [np.linalg.norm(b - a) for exam in exams for a, b in pairwise(places(exam)[::2])]
    assert np.mean(steps) == pytest.approx(36.6, abs=1.2)


def test_neighbouring_steps_are_nearly_equal(exams: list[PhantomExam]) -> None:
    for exam in exams:
        steps = np.linalg.norm(np.diff(places(exam), axis=0), axis=1)
        ratios = steps[1:] / steps[:-1]
        assert ratios.min() > 0.5
        assert ratios.max() < 2.0


def test_rates_of_degeneration() -> None:
    patients = [make_patient(np.random.default_rng(k), DISC_RATES, VERTEBRA_RATES) for k in range(400)]
    for name, rate in DISC_RATES.items():
        found = np.mean([p.disc(name).grade is Grade.DEGENERATIVE for p in patients])
        assert found == pytest.approx(rate, abs=0.09)
    for name, rate in VERTEBRA_RATES.items():
        found = np.mean([p.body(name).grade is Grade.DEGENERATIVE for p in patients])
        assert found == pytest.approx(rate, abs=0.09)


def test_the_spine_is_lordotic(exams: list[PhantomExam]) -> None:
    angles = [e.patient.disc("L5-S1").part.angle - e.patient.disc("L1-L2").part.angle for e in exams]
    assert 10 < np.degrees(np.mean(angles)) < 60


# ---------------------------------------------------------------- scanner and geometry


def test_exams_vary_as_scanners_do(exams: list[PhantomExam]) -> None:
    spacings = [make_phantom(seed, slices=1).plan.spacing for seed in range(12)]
    assert max(spacings) / min(spacings) > 1.4
    assert all(0.3 <= s <= 1.2 for s in spacings)


def test_intensities_are_whole_and_not_negative(exams: list[PhantomExam]) -> None:
    for exam in exams:
        voxels = exam.volume.voxels
        assert voxels.dtype == np.float32
        assert voxels.min() >= 0
        assert 100 < voxels.max() < 65535
        np.testing.assert_array_equal(voxels, np.round(voxels))


def test_stack_geometry(whole: PhantomExam) -> None:
    volume = whole.volume
    assert np.all(np.diff(volume.positions) > 0)
    assert volume.slice_step == pytest.approx(whole.plan.step)
    assert abs(volume.normal[0]) > 0.97
    assert 11 <= len(volume.voxels) <= 17


def test_neighbouring_slices_differ(whole: PhantomExam) -> None:
    voxels = whole.volume.voxels
    likeness = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairwise(voxels)]
    assert max(likeness) < 0.99
    assert min(likeness) > 0.5


def test_t1_shows_the_same_patient_in_another_contrast() -> None:
    config = replace(DEMO_CONFIG, artefacts=0.0, matrix=(256,))
    t2 = make_phantom(4, config=config, slices=3)
    t1 = make_phantom(4, config=replace(config, contrast="t1"), slices=3)
    assert t1.points == t2.points
    assert t1.grades == t2.grades
    assert t1.volume.study_uid == t2.volume.study_uid
    assert t1.volume.series_uid != t2.volume.series_uid
    np.testing.assert_array_equal(t1.volume.origins, t2.volume.origins)
    part, middle = t2.patient.body("L3").part, t2.volume.middle_index
    y, z = part.local_to_anatomy(part.depth / 2 + 0.5 * t2.patient.canal_depth, 0)
    canal = t2.plan.pose @ np.array([part.lateral, y, z]) + t2.plan.shift
    x, y = map(round, t2.volume.from_patient(canal, middle))
    relative = [e.volume.voxels[middle][y, x] / np.percentile(e.volume.voxels[middle], 97) for e in (t1, t2)]
    assert relative[0] < 0.5 < relative[1]


def test_other_contrasts_show_the_same_patient_with_other_signals() -> None:
    """Marrow, nucleus, canal and subcutaneous fat of a well-hydrated spine, by their order."""
    config = replace(DEMO_CONFIG, artefacts=0.0, matrix=(256,), disc_rates=dict.fromkeys(DEMO_CONFIG.disc_rates, 0.0))
    exams = {c: make_phantom(4, config=replace(config, contrast=c), slices=1) for c in TISSUES}
    t2, signals = exams["t2"].volume.voxels[0], {}
    row = round(exams["t2"].points["L3"][1])
    under_skin = np.flatnonzero(t2[row] > 0.5 * t2[row].max())[-8:-3]
    for contrast, exam in exams.items():
        assert exam.points == exams["t2"].points
        picture = exam.volume.voxels[0]
        marrow, disc = (
            np.mean([picture[round(y), round(x)] for x, y in (exam.points[n] for n in names)])
            for names in (("L2", "L3"), ("L2-L3", "L3-L4"))
        )
        fat = picture[row, under_skin].mean()
        signals[contrast] = (marrow, disc, fat)
    for contrast in ("stir", "water"):
        marrow, disc, fat = signals[contrast]
        assert disc > 1.1 * marrow
        assert disc > 1.5 * fat
    for contrast in ("t1", "fat"):
        marrow, disc, fat = signals[contrast]
        assert disc < 0.5 * marrow
        assert fat > 2 * max(signals["stir"][2], signals["water"][2])
    assert len({exam.volume.series_uid for exam in exams.values()}) == len(TISSUES)
    assert len({exam.volume.study_uid for exam in exams.values()}) == 1


@pytest.mark.parametrize("seed", range(1_000_000, 1_000_008))
def test_plan__has_room_for_a_sacrum(seed: int) -> None:
    """Without it, three of these eight pictures end 16 to 31 mm below L5-S1."""
    exam = make_phantom(seed, slices=1)
    room = (exam.volume.voxels.shape[1] - exam.points["L5-S1"][1]) * exam.volume.pixel_spacing[0]
    assert room > 34


def test_default_config_is_wide() -> None:
    assert DEFAULT_CONFIG.field_of_view == (240.0, 400.0)
    assert (min(DEFAULT_CONFIG.matrix), max(DEFAULT_CONFIG.matrix)) == (256, 640)
