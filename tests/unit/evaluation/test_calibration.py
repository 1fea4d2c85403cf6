"""Temperature, Platt and the undecided band: they do what they promise, or say what is lacking."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spineone_core.anatomy import Grade, Structure
from spineone_core.detection.calibration import Calibration, calibrate
from spineone_core.detection.detector import Detector
from spineone_core.detection.model_package import Manifest, load_package
from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.network.config import NetworkConfig
from spineone_core.phantom.config import DEMO_CONFIG
from spineone_core.phantom.exam import make_phantom
from trainer.evaluation.calibration import (
    CalibrationError,
    calibration_of,
    conformal_band,
    expected_calibration_error,
    fit_temperature,
)
from trainer.evaluation.outcomes import Outcome


def drawn(count: int, seed: int, *, overconfidence: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a network that is too sure of itself, and the labels drawn from the true ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.0, count)
    labels = (rng.random(count) < 1 / (1 + np.exp(-logits))).astype(float)
    return 1 / (1 + np.exp(-overconfidence * logits)), labels


def test_temperature__mends_overconfidence_and_leaves_one_half() -> None:
    probabilities, labels = drawn(4000, 0)
    found = fit_temperature(probabilities, labels)
    assert found.slope == pytest.approx(1 / 3, abs=0.03)
    assert found.intercept == 0
    mended = np.array([calibrate(p, found) for p in probabilities.tolist()])
    assert expected_calibration_error(mended, labels) < 0.03 < expected_calibration_error(probabilities, labels)
    assert calibrate(0.5, found) == pytest.approx(0.5)


@pytest.mark.parametrize("error_rate", [0.05, 0.1, 0.2])
def test_band__keeps_its_promise_on_new_keypoints(error_rate: float) -> None:
    """The promise holds on average over calibration sets, here of 100 keypoints each."""
    wrong: dict[int, list[float]] = {0: [], 1: []}
    for seed in range(200):
        probabilities, labels = drawn(300, seed)
        low, high = conformal_band(probabilities[:100], labels[:100], error_rate)
        new, truth = probabilities[100:], labels[100:]
        wrong[1].append(float((new[truth > 0] < low).mean()))
        wrong[0].append(float((new[truth <= 0] > high).mean()))
    for rates in wrong.values():
        assert np.mean(rates) <= error_rate + 0.01


def test_band__is_only_as_wide_as_needed() -> None:
    labels = np.array([0.0] * 20 + [1.0] * 20)
    sure = np.where(labels > 0, 0.9, 0.1)
    assert conformal_band(sure, labels, 0.1) == (0.5, 0.5)
    blind = np.full(40, 0.7)
    assert conformal_band(blind, labels, 0.1) == (0.5, 0.7)
    # One of twenty may be wrong at 0.1: floor(21 x 0.1) = 2 lie at or below the bound.
    one_wrong = sure.copy()
    one_wrong[20] = 0.2
    assert conformal_band(one_wrong, labels, 0.1) == (0.5, 0.5)
    assert conformal_band(one_wrong, labels, 0.05)[0] == 0.2


def test_band__says_how_many_are_needed() -> None:
    labels = np.array([0.0] * 8 + [1.0] * 50)
    with pytest.raises(
        CalibrationError, match=r"8 normal keypoints are too few for an error rate of 0\.1; 9 are needed"
    ):
        conformal_band(np.full(58, 0.5), labels, 0.1)
    conformal_band(np.full(59, 0.5), np.append(labels, 0.0), 0.1)
    with pytest.raises(CalibrationError, match="between 0 and"):
        conformal_band(np.full(58, 0.5), labels, 0.7)


def outcomes(count: int) -> list[Outcome]:
    """Perfect places; probabilities drawn for each keypoint."""
    truth = np.column_stack([np.zeros(10), 18.0 * np.arange(10)])
    found = []
    for k in range(count):
        probabilities, labels = drawn(10, k)
        grades = tuple(Grade.DEGENERATIVE if label else Grade.NORMAL for label in labels)
        found.append(Outcome(f"e{k}", f"p{k}", truth, grades, truth, probabilities))
    return found


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_calibration__goes_into_the_manifest_and_decides(method: str) -> None:
    found = calibration_of(outcomes(40), Structure.DISC, method=method, error_rate=0.1)
    assert found.undecided is not None
    low, high = found.undecided
    assert 0.1 < low < 0.5 < high < 0.9
    manifest = Manifest(
        name="m",
        version="1",
        network=NetworkConfig(),
        preprocessing=PreprocessingConfig(slices=7),
        calibration={"disc": found},
    )
    read = Manifest.from_json(manifest.to_json("0" * 64))
    assert read.calibration["disc"] == found
    assert [read.decides(Structure.DISC, p) for p in (low - 0.01, low, 0.5, high, high + 0.01)] == [
        True,
        False,
        False,
        False,
        True,
    ]
    # No band for vertebrae: the margin of the decoding holds.
    assert [read.decides(Structure.VERTEBRA, p) for p in (0.39, 0.45, 0.61)] == [True, False, True]


def test_calibration__too_little_names_the_structure() -> None:
    with pytest.raises(CalibrationError, match="vertebra: 5 keypoints"):
        calibration_of(outcomes(1), Structure.VERTEBRA, method="platt", error_rate=0.1)


def test_band__must_hold_one_half() -> None:
    with pytest.raises(ValueError, match="allowed"):
        Calibration(undecided=(0.6, 0.8))


def test_detector__calls_no_class_inside_the_band() -> None:
    package = load_package("default")
    manifest = replace(package.manifest, calibration={"disc": Calibration(undecided=(0.0, 1.0))})
    detector = Detector(replace(package, manifest=manifest), device="cpu")
    detection = detector.detect(make_phantom(4, config=DEMO_CONFIG, slices=3).volume)
    assert detection.analysed
    margin = manifest.decoding.undecided_margin
    for finding in detection.findings:
        expected = finding.structure is Structure.VERTEBRA and abs(finding.probability - 0.5) >= margin
        assert finding.decided is expected
