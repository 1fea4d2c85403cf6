"""The definition of "degenerative" that stands in a result, and a site's own rule for discs."""

from __future__ import annotations

import dataclasses

import pytest

from spineone_core.anatomy import Structure
from spineone_core.detection.class_rule import ClassRule, definitions, says_grades
from spineone_core.detection.detector import Detector
from spineone_core.detection.model_package import ModelPackage, ModelPackageError, load_package
from spineone_core.findings import Detection, PfirrmannGrade
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.network.grading import GradingConfig
from spineone_core.phantom.config import DEMO_CONFIG
from spineone_core.phantom.exam import make_phantom

GRADE = PfirrmannGrade(grade=3, probabilities=(0.05, 0.15, 0.45, 0.25, 0.1))


@pytest.fixture(scope="module")
def shipped() -> ModelPackage:
    return load_package()


@pytest.fixture(scope="module")
def volume() -> SagittalVolume:
    return make_phantom(1, config=DEMO_CONFIG, slices=3).volume


@pytest.mark.parametrize(("grade", "expected"), [(2, 0.95), (3, 0.8), (4, 0.35), (5, 0.1)])
def test_rule__adds_up_the_grades_from_its_own_on(grade: int, expected: float) -> None:
    assert ClassRule(grade).probability(GRADE) == pytest.approx(expected)


def test_rule__says_nothing_where_it_is_off_or_there_is_no_grade() -> None:
    assert ClassRule().probability(GRADE) is None
    assert ClassRule(3).probability(None) is None


@pytest.mark.parametrize("grade", [1, 6, -1])
def test_rule__refuses_other_grades(grade: int) -> None:
    with pytest.raises(ValueError, match="2 to 5"):
        ClassRule(grade)


def test_definitions__are_those_of_the_networks_that_say_the_class() -> None:
    direct = dict(definitions([GradingConfig(structure=Structure.DISC)], ClassRule()))
    assert "training data" in direct["disc"]
    assert "training data" in direct["vertebra"]
    signs = [GradingConfig(structure=s, class_from="signs") for s in Structure]
    assert "bulging" in dict(definitions(signs, ClassRule()))["disc"]
    assert "no finding of the vertebra itself" in dict(definitions(signs, ClassRule()))["vertebra"]
    assert dict(definitions(signs, ClassRule(4)))["disc"] == "Pfirrmann grade 4 or more, by a rule of this site"


def test_detector__a_rule_decides_the_class_of_discs_alone(shipped: ModelPackage, volume: SagittalVolume) -> None:
    own = Detector(shipped, device="cpu").detect(volume)
    ruled = Detector(shipped, device="cpu", rule=ClassRule(5)).detect(volume)
    for before, after in zip(own.findings, ruled.findings, strict=True):
        if after.structure is Structure.VERTEBRA:
            assert after == before
            continue
        assert after.pfirrmann == before.pfirrmann
        assert after.pfirrmann is not None
        assert after.probability == pytest.approx(after.pfirrmann.probabilities[4])
        assert after.decided == (abs(after.probability - 0.5) >= shipped.manifest.decoding.undecided_margin)
    assert own.findings != ruled.findings
    assert dict(ruled.definitions)["disc"] != dict(own.definitions)["disc"]
    assert Detection.from_json(ruled.to_json()).definitions == ruled.definitions


def test_detector__a_model_without_grades_refuses_the_rule(shipped: ModelPackage) -> None:
    assert says_grades(shipped)
    plain = dataclasses.replace(shipped, grading={})
    assert not says_grades(plain)
    with pytest.raises(ModelPackageError, match=r"no Pfirrmann grade.*grade 4"):
        Detector(plain, device="cpu", rule=ClassRule(4))


def test_findings__of_earlier_versions_have_no_definitions(shipped: ModelPackage, volume: SagittalVolume) -> None:
    data = Detector(shipped, device="cpu").detect(volume).to_json()
    assert set(data.pop("definitions")) == {"disc", "vertebra"}
    assert Detection.from_json(data).definitions == ()
