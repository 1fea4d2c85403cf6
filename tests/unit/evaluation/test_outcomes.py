"""What is measured is what ships: an evaluation's outcome of an exam is what the detector reports of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.detection.calibration import Calibration
from spineone_core.detection.detector import Detector
from spineone_core.detection.levels import DecodingConfig
from spineone_core.detection.model_package import Manifest, ModelPackage, load_package
from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.findings import Detection, ModelIdentity
from spineone_core.imaging.volume import SagittalVolume, SliceSource
from spineone_core.network.config import HEATMAPS
from spineone_core.network.domain import DomainConfig, DomainNetwork
from spineone_core.network.spineone import BranchOutput, SpineOne
from spineone_core.phantom.config import PhantomConfig
from tests.fakes.oracle import GRADES, RADIUS, SIZE, TEN, oracle
from trainer.datasets import phantoms
from trainer.datasets.exam import Exam
from trainer.evaluation import metrics
from trainer.evaluation.outcomes import Outcome, in_plane_mm, outcome_of, outcomes_of
from trainer.reproduce.trainings import never_refusing

SPACING = 0.75
# Rows of the bright band that the domain check refuses.
BAND = 8


class Picky(DomainNetwork):
    """Refuses what `picture` marks: a bright band along the upper edge."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 12 * (images[:, 0, :BAND].mean(dim=(1, 2)) > 1).float() - 6


@pytest.fixture
def tiny() -> ModelPackage:
    """A package whose network knows the truth, with a domain check and classes that are scaled and cut."""
    network, domain = oracle("ocpc"), Picky(DomainConfig(width=4)).eval()
    manifest = Manifest(
        name="oracle",
        version="0",
        network=network.config,
        preprocessing=PreprocessingConfig(spacing_mm=SPACING, slices=1),
        decoding=DecodingConfig(radius_px=RADIUS),
        calibration={"disc": Calibration(slope=0.2, intercept=0.3, undecided=(0.4, 0.9), error_rate=0.1)},
        domain=domain.config,
    )
    return ModelPackage(manifest, ModelIdentity(name="oracle", version="0", digest="0" * 64), network, domain)


def picture(name: str, rows: int = SIZE[0], *, foreign: bool = False) -> Exam:
    """One slice that the oracle reads."""
    pixels = np.broadcast_to(np.linspace(100, 1, SIZE[1], dtype=np.float32), (1, rows, SIZE[1])).copy()
    if foreign:
        pixels[0, :BAND] = 200
    volume = SagittalVolume(
        voxels=pixels,
        origins=np.zeros((1, 3)),
        row_direction=np.array([0.0, 1.0, 0.0]),
        column_direction=np.array([0.0, 0.0, -1.0]),
        pixel_spacing=(SPACING, SPACING),
        sources=(SliceSource(Path("0.dcm"), "1.2.0", "1.2", None),),
        study_uid="1.2.3",
        series_uid="1.2.3.4",
    )
    levels = {
        landmark.level: (float(x), min(float(y), rows - 1.0))
        for landmark, (x, y) in zip(READING_ORDER, TEN, strict=True)
    }
    return Exam(exam_id=name, patient=name, subset="", volume=volume, slice_index=0, points=levels, grades={})


def assert_same(package: ModelPackage, exam: Exam, outcome: Outcome, detection: Detection) -> None:
    assert outcome.refusal == (detection.reason or "")
    if outcome.predicted is None or outcome.probabilities is None or outcome.confidences is None:
        assert not detection.analysed
        return
    points = in_plane_mm(exam.volume, np.array([(f.x, f.y) for f in detection.findings]))
    # The detector folds normalisations into convolutions: rounding differs.
    assert np.allclose(outcome.predicted, points, atol=1e-3)
    assert np.allclose(outcome.probabilities, [f.probability for f in detection.findings], atol=1e-4)
    assert np.allclose(outcome.confidences, [f.localisation_confidence for f in detection.findings], atol=1e-4)
    decided = [
        package.manifest.decides(landmark.structure, p)
        for landmark, p in zip(READING_ORDER, outcome.probabilities.tolist(), strict=True)
    ]
    assert decided == [f.decided for f in detection.findings]


def compare(package: ModelPackage, exams: list[Exam]) -> list[str]:
    """The reason of each refusal, empty for what was analysed, once both ways are found to agree."""
    detector = Detector(package, device="cpu")
    outcomes = outcomes_of(
        package.network, package.manifest, exams, detector.device, package.domain, grading=package.grading
    )
    for exam, outcome, detection in zip(
        exams, outcomes, detector.detect_many([exam.volume for exam in exams]), strict=True
    ):
        assert_same(package, exam, outcome, detection)
    together = outcomes_of(
        package.network,
        package.manifest,
        iter(exams),
        detector.device,
        package.domain,
        grading=package.grading,
        batch=2,
    )
    for one, other in zip(outcomes, together, strict=True):
        # Sums in another order: a hundredth of a millimetre at most.
        assert (one.exam_id, one.refusal) == (other.exam_id, other.refusal)
        if one.predicted is not None and other.predicted is not None:
            assert np.allclose(one.predicted, other.predicted, atol=0.01)
            assert np.allclose(one.probabilities, other.probabilities, atol=1e-3)
    return [outcome.refusal for outcome in outcomes]


def test_outcome__is_what_the_detector_reports(tiny: ModelPackage) -> None:
    exams = [picture("whole"), picture("taller", rows=352), picture("foreign", foreign=True), picture("again")]
    blank = picture("blank")
    blank.volume.voxels[:] = 0
    assert compare(tiny, [*exams, blank]) == ["", "", "not_lumbar", "", "unreadable_pixels"]


def test_outcome__points_in_the_padding_are_refused_in_both(tiny: ModelPackage) -> None:
    # The oracle's spine grows with the picture: of 162 rows, padded to 192, L5-S1 lies at row 164.
    rows = 162
    assert compare(tiny, [picture("cut", rows=rows), picture("whole")]) == ["levels_incomplete", ""]
    exam, cpu = picture("cut", rows=rows), torch.device("cpu")
    assert outcome_of(tiny.network, tiny.manifest, exam, cpu, tiny.domain).predicted is None


@pytest.mark.parametrize("heatmap", HEATMAPS)
def test_outcome__padding_names_no_point_where_nothing_is_refused(heatmap: str) -> None:
    rows = 162
    network = oracle(heatmap)
    outcome = outcome_of(network, never_refusing(manifest_of(network)), picture("cut", rows=rows), torch.device("cpu"))
    assert outcome.predicted is not None
    assert len(metrics.offered_rows(outcome)) == 9
    assert np.nanmax(outcome.predicted[:, 1]) <= (rows - 0.5) * SPACING


# ---------------------------------------------------------------- the paper's tables


def manifest_of(network: SpineOne) -> Manifest:
    return Manifest(
        name="oracle",
        version="0",
        network=network.config,
        preprocessing=PreprocessingConfig(spacing_mm=SPACING, slices=1),
        decoding=DecodingConfig(radius_px=RADIUS),
    )


def known(name: str) -> Exam:
    """The oracle's picture with its points and classes as the truth."""
    exam = picture(name)
    points = dict(zip(exam.points, map(tuple, TEN.tolist()), strict=True))
    return replace(exam, points=points, grades=dict(zip(points, GRADES, strict=True)))


@pytest.mark.parametrize("count", range(6))
@pytest.mark.parametrize("structure", Structure)
def test_every_kind_of_row__counts_absent_keypoints_alike(structure: Structure, count: int) -> None:
    """Tables I to IV: what a row's maps do not show is missed, whatever its heatmap; nothing is refused, nothing is invented."""
    rows = [i for i, landmark in enumerate(READING_ORDER) if landmark.structure is structure]
    absent = rows[:count]
    counted = []
    for heatmap in HEATMAPS:
        network = oracle(heatmap, absent)
        outcome = outcome_of(network, never_refusing(manifest_of(network)), known("e"), torch.device("cpu"))
        figures = [metrics.class_figures([outcome], s) for s in Structure]
        counted.append(
            {
                "counts": [(f.tp, f.fp, f.fn) for figure in figures for f in figure.values()],
                "strays": [metrics.stray_outputs([outcome], s) for s in Structure],
                "micro": metrics.micro_precision([outcome]),
                "pck": [metrics.pck([outcome], structure=s) for s in Structure],
                "refusal": outcome.refusal,
            }
        )
    assert all(counts == counted[0] for counts in counted)
    missed = {grade: sum(GRADES[row] is grade for row in absent) for grade in Grade}
    for s in Structure:
        for grade, found in metrics.class_figures([outcome], s).items():
            assert (found.fp, found.fn) == (0, missed[grade] if s is structure else 0)
    assert metrics.pck([outcome], structure=structure) == pytest.approx(1 - count / 5)
    assert (counted[0]["micro"], counted[0]["refusal"]) == (1.0, "")


@pytest.mark.parametrize("heatmap", HEATMAPS)
@pytest.mark.parametrize("probability", [0.0, 0.0101, 0.5])
def test_every_kind_of_row__a_uniform_map_ends_in_no_error(heatmap: str, probability: float) -> None:
    network = oracle(heatmap)

    def flat(images: torch.Tensor) -> dict[Structure, BranchOutput]:
        logit = math.log(probability / (1 - probability)) if probability else -20.0
        sizes = {s: (len(images), network.config.channels(s), *images.shape[-2:]) for s in Structure}
        return {s: BranchOutput(torch.full(shape, logit), None) for s, shape in sizes.items()}

    network.forward = flat  # type: ignore[method-assign, assignment]
    manifest = manifest_of(network)
    open_outcome = outcome_of(network, never_refusing(manifest), known("e"), torch.device("cpu"))
    assert open_outcome.refusal == ""
    assert len(metrics.offered_rows(open_outcome)) == (0 if probability == 0 else 10)
    assert outcome_of(network, manifest, known("e"), torch.device("cpu")).predicted is None


def test_outcome__of_the_shipped_model_on_phantoms() -> None:
    package = load_package()
    (good,) = phantoms.read(range(1), slices=1)
    (dark,) = phantoms.read(range(1), slices=1, config=PhantomConfig(contrast="t1"))
    large = replace(good, volume=replace(good.volume, pixel_spacing=(4.0, 4.0)))
    assert compare(package, [good, dark, large]) == ["", "not_lumbar", "field_of_view_too_large"]
