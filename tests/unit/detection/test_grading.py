"""Packages with grading networks: what they say stands in the findings, calibrated; packages without them stay as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spineone_core.anatomy import Structure
from spineone_core.detection.calibration import Calibration, calibrate
from spineone_core.detection.detector import Detector
from spineone_core.detection.model_package import MANIFEST, ModelPackage, ModelPackageError, load_package, save_package
from spineone_core.findings import Detection, Reason
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.network.grading import GradingConfig, GradingEnsemble, GradingNetwork
from spineone_core.phantom.config import DEMO_CONFIG
from spineone_core.phantom.exam import make_phantom


@pytest.fixture(scope="module")
def shipped() -> ModelPackage:
    return load_package()


@pytest.fixture(scope="module")
def volume() -> SagittalVolume:
    return make_phantom(1, config=DEMO_CONFIG, slices=3).volume


def ensemble(structure: Structure, seed: int = 0, members: int = 2) -> GradingEnsemble:
    """Tiny networks with random weights."""
    torch.manual_seed(seed)
    config = GradingConfig(structure=structure, crop_px=16, width=4, members=members)
    return GradingEnsemble(config).eval()


def constant(direct: float, severity: float) -> GradingEnsemble:
    """Says the same of every disc: the logit of the class, and how far the grade is over its first threshold of 0."""
    config = GradingConfig(structure=Structure.DISC, crop_px=16, width=4, members=1)
    network = GradingNetwork(config)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(network.direct.bias, direct)
    with torch.no_grad():
        network.thresholds[0] = -severity
    torch.nn.init.constant_(network.sign.bias, 1.0)
    return GradingEnsemble(config, [network]).eval()


def graded(shipped: ModelPackage, grading: dict[Structure, GradingEnsemble], **calibration: Calibration) -> Detector:
    keys = {name.replace("_", ".", 1): one for name, one in calibration.items()}
    classes = {key: one for key, one in shipped.manifest.calibration.items() if "." not in key}
    manifest = replace(shipped.manifest, calibration={**classes, **keys})
    return Detector(replace(shipped, manifest=manifest, grading=grading), device="cpu")


def test_detector__without_grading_says_no_grade(shipped: ModelPackage, volume: SagittalVolume) -> None:
    findings = Detector(replace(shipped, grading={}), device="cpu").detect(volume).findings
    assert len(findings) == 10
    assert {(f.pfirrmann, f.signs) for f in findings} == {(None, ())}


def test_detector__class_grade_and_signs_come_from_the_grading_network(
    shipped: ModelPackage, volume: SagittalVolume
) -> None:
    scaling = Calibration(slope=0.5, intercept=0.2, undecided=(0.3, 0.6))
    plain = Detector(replace(shipped, grading={}), device="cpu").detect(volume)
    # Thresholds lie softplus(0) = .69 apart: severity 1 passes the first two.
    detector = graded(
        shipped,
        {Structure.DISC: constant(2.0, 1.0)},
        disc=scaling,
        **{f"disc_pfirrmann.{k}": Calibration(slope=2.0) for k in range(1, 5)},
        disc_narrowing=Calibration(intercept=-1.0),
    )
    found = detector.detect(volume)
    for finding, before in zip(found.findings, plain.findings, strict=True):
        assert (finding.x, finding.y) == (before.x, before.y)
        if finding.structure is Structure.VERTEBRA:
            assert finding == before
            continue
        assert finding.probability == pytest.approx(1 / (1 + 2.718281828 ** -(0.5 * 2.0 + 0.2)), abs=1e-6)
        assert finding.decided
        assert finding.pfirrmann is not None
        assert finding.pfirrmann.grade == 3
        assert sum(finding.pfirrmann.probabilities) == pytest.approx(1)
        over_one = calibrate(float(torch.sigmoid(torch.tensor(1.0))), Calibration(slope=2.0))
        assert finding.pfirrmann.probabilities[0] == pytest.approx(1 - over_one, abs=1e-6)
        # Only signs with a calibration are reported; this one is exactly in doubt.
        assert finding.signs == (("narrowing", pytest.approx(0.5, abs=1e-6)),)
    assert Detection.from_json(json.loads(found.dumps())).to_json() == found.to_json()
    assert found.to_json()["findings"][1]["signs"] == {"narrowing": 0.5}


def test_detector__the_band_of_the_package_leaves_grades_undecided(
    shipped: ModelPackage, volume: SagittalVolume
) -> None:
    detector = graded(shipped, {Structure.DISC: constant(0.1, 0.0)}, disc=Calibration(undecided=(0.4, 0.6)))
    discs = [f for f in detector.detect(volume).findings if f.structure is Structure.DISC]
    assert [f.decided for f in discs] == [False] * 5
    # Without a calibration for the grade there is none.
    assert [f.pfirrmann for f in discs] == [None] * 5


def test_detector__refuses_what_is_not_finite(shipped: ModelPackage, volume: SagittalVolume) -> None:
    found = graded(shipped, {Structure.DISC: constant(float("nan"), 0.0)}).detect(volume)
    assert found.reason is Reason.INVALID_OUTPUT
    assert "grading network" in found.reason_detail


def test_package__keeps_grading_networks(tmp_path: Path, shipped: ModelPackage, volume: SagittalVolume) -> None:
    grading = {structure: ensemble(structure) for structure in Structure}
    save_package(tmp_path, shipped.network, shipped.manifest, domain=shipped.domain, grading=grading)
    again = load_package(tmp_path)
    assert again.manifest.grading == {s.value: e.config for s, e in grading.items()}
    crops = torch.randn(1, 5, 16, 16)
    for structure, one in grading.items():
        for part, loaded in zip(one(crops), again.grading[structure](crops), strict=True):
            assert torch.allclose(part, loaded, atol=2e-2)  # half precision
    assert Detector(again, device="cpu").detect(volume).analysed


def test_package__of_another_size_is_refused(tmp_path: Path, shipped: ModelPackage) -> None:
    grading = {Structure.DISC: ensemble(Structure.DISC)}
    save_package(tmp_path, shipped.network, shipped.manifest, grading=grading)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["grading"]["disc"]["width"] = 8
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ModelPackageError, match="does not fit the manifest's network"):
        load_package(tmp_path)
    manifest["grading"]["disc"]["colour"] = 1
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ModelPackageError, match="unknown grading option colour"):
        load_package(tmp_path)


def test_package__of_before_loads_without_grading(tmp_path: Path, shipped: ModelPackage) -> None:
    save_package(tmp_path, shipped.network, replace(shipped.manifest, grading={}), domain=shipped.domain)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    del manifest["grading"]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert load_package(tmp_path).grading == {}


def test_detector__grades_stay_in_order_whatever_their_calibration(
    shipped: ModelPackage, volume: SagittalVolume
) -> None:
    scalings = {f"disc_pfirrmann.{k}": Calibration(intercept=0.0 if k < 3 else 5.0) for k in range(1, 5)}
    detector = graded(shipped, {Structure.DISC: constant(0.0, 1.0)}, **scalings)
    found = detector.detect(volume).findings[1].pfirrmann
    assert found is not None
    assert min(found.probabilities) >= 0
    assert sum(found.probabilities) == pytest.approx(1)


def test_package__that_joins_vertebrae_with_discs_needs_both(
    tmp_path: Path, shipped: ModelPackage, volume: SagittalVolume
) -> None:
    discs, vertebrae = ensemble(Structure.DISC), ensemble(Structure.VERTEBRA)
    vertebrae.config = replace(vertebrae.config, class_from="joined")
    both = {Structure.DISC: discs, Structure.VERTEBRA: vertebrae}
    save_package(tmp_path / "both", shipped.network, shipped.manifest, grading=both)
    assert Detector(load_package(tmp_path / "both"), device="cpu").detect(volume).analysed
    save_package(tmp_path / "one", shipped.network, shipped.manifest, grading={Structure.VERTEBRA: vertebrae})
    with pytest.raises(ModelPackageError, match="no network looks at these"):
        load_package(tmp_path / "one")


def test_detector__leaves_the_number_of_threads_as_it_was(shipped: ModelPackage, volume: SagittalVolume) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        graded(shipped, {Structure.DISC: constant(float("nan"), 0.0)}).detect(volume)
        graded(shipped, {Structure.DISC: constant(0.0, 0.0)}).detect(volume)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
