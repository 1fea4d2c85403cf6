"""The domain check: what it refuses, its package and its training data; and the negatives that test the detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spineone_core.detection.detector import Detector
from spineone_core.detection.domain_check import check_score, domain_score, finite_score
from spineone_core.detection.model_package import load_package, save_package
from spineone_core.detection.preprocessing import prepare
from spineone_core.findings import NotAnalysable, Reason
from spineone_core.network.domain import DomainConfig, DomainNetwork
from trainer.datasets import negatives, phantoms
from trainer.datasets.exam import Exam
from trainer.evaluation.refusals import count_refusals, trials
from trainer.training.domain_check import COPIES, DomainData, choose_limit, domain_data, fit_domain, sample, with_limit

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def exam() -> Exam:
    (exam,) = phantoms.read(range(3, 4), slices=9)
    return exam


@pytest.fixture(scope="module")
def data() -> DomainData:
    return domain_data(load_package(), list(phantoms.read(range(7, 9), slices=1)), [], 2)


def constant(logit: float) -> DomainNetwork:
    """A check that gives every picture the same score."""
    network = DomainNetwork(DomainConfig(width=4))
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.constant_(network.head.bias, logit)
    return network.eval()


def test_finite_score__is_none_without_a_check_and_never_nan() -> None:
    images = np.zeros((3, 1, 64, 64), np.float32)
    assert finite_score(None, images, CPU) is None
    assert finite_score(constant(-4.0), images, CPU) == pytest.approx(0.018, abs=1e-3)
    with pytest.raises(NotAnalysable) as caught:
        finite_score(constant(float("nan")), images, CPU)
    assert caught.value.reason is Reason.INVALID_OUTPUT


def test_check_score__refuses_over_the_limit_and_says_the_score() -> None:
    check_score(None, None)
    check_score(constant(0.0), 0.5)
    with pytest.raises(NotAnalysable, match=r"score 0\.98 is over the model's limit 0\.50") as caught:
        check_score(constant(0.0), 0.982)
    assert caught.value.reason is Reason.NOT_LUMBAR


def test_domain_network__looks_at_the_middle_slice_only() -> None:
    torch.manual_seed(0)
    network = DomainNetwork(DomainConfig(width=4)).eval()
    images = np.random.default_rng(0).normal(size=(1, 7, 64, 96)).astype(np.float32)
    assert domain_score(network, images, CPU) == pytest.approx(domain_score(network, images[:, 3:4], CPU))


@pytest.mark.parametrize("wrong", [{"width": 2}, {"limit": 0.0}, {"limit": 1.5}])
def test_domain_config__names_what_is_impossible(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be at least 4 and limit"):
        DomainConfig(**wrong)  # type: ignore[arg-type]


def test_package__keeps_the_check_and_the_detector_uses_it(exam: Exam, tmp_path: Path) -> None:
    shipped = load_package()
    network = constant(4.0)
    save_package(tmp_path, shipped.network, shipped.manifest, domain=network)
    package = load_package(tmp_path)
    assert package.domain is not None
    assert package.manifest.domain == network.config
    detection = Detector(package, device="cpu").detect(exam.volume)
    assert detection.reason is Reason.NOT_LUMBAR
    assert detection.ood_score == pytest.approx(0.982, abs=1e-3)
    assert detection.to_json()["ood_score"] is not None
    save_package(tmp_path, shipped.network, replace(shipped.manifest, domain=network.config))
    assert load_package(tmp_path).domain is None


def test_spoiled__every_kind_with_the_geometry_that_it_claims(exam: Exam) -> None:
    spoiled = {item.kind: item for item in negatives.spoiled(exam, 1)}
    assert set(spoiled) == set(negatives.SPOILERS)
    assert all(item.patient == exam.patient for item in spoiled.values())
    volume = exam.volume
    for kind in negatives.IMAGE_SPOILERS:
        assert spoiled[kind].volume.voxels.dtype == np.float32
        assert not np.array_equal(spoiled[kind].volume.voxels, volume.voxels)
    whole = volume.to_patient(exam.slice_index, *exam.points["L5"])
    lower = spoiled["lower half"].volume
    removed = volume.voxels.shape[1] - lower.voxels.shape[1]
    x, y = exam.points["L5"]
    assert np.allclose(lower.to_patient(exam.slice_index, x, y - removed), whole)
    assert spoiled["upper half"].volume.voxels.shape[1] < exam.points["L5"][1]
    assert exam.points["L2-L3"][1] < removed + 60
    assert spoiled["half size"].volume.pixel_spacing[0] == volume.pixel_spacing[0] / 2


def test_reslices__need_a_real_stack(exam: Exam) -> None:
    (single,) = phantoms.read(range(3, 4), slices=1)
    kinds = {item.kind for item in negatives.spoiled(single, 1)}
    assert not {"axial", "coronal"} & kinds
    axial = next(item for item in negatives.spoiled(exam, 1) if item.kind == "axial")
    rows, columns = axial.volume.voxels.shape[1:]
    step, spacing = exam.volume.slice_step, exam.volume.pixel_spacing[1]
    assert rows * spacing == pytest.approx(9 * step, rel=0.05)
    assert columns == exam.volume.voxels.shape[2]


def test_test_objects__one_of_each_kind_a_seed() -> None:
    kinds = [item.kind for item in negatives.test_objects(range(2))]
    assert sorted(kinds) == sorted(2 * [*negatives.OBJECTS, "blank", "T1 phantom", "water phantom", "fat phantom"])


def test_sample__half_good_and_all_of_one_size(data: DomainData) -> None:
    pairs = [sample(data, index, 0, 1.75) for index in range(40)]
    assert {images.shape for images, _ in pairs} == {(1, 208, 144)}
    assert 10 < sum(label for _, label in pairs) < 30
    assert all(np.isfinite(images).all() for images, _ in pairs)
    again, label = sample(data, 5, 0, 1.75)
    assert label == pairs[5][1]
    assert np.array_equal(again, pairs[5][0])


def test_fit_domain__learns_and_says_how_far_it_is(data: DomainData) -> None:
    lines: list[str] = []
    network = fit_domain(data, 0.875, steps=2, batch=2, log=lines.append)
    assert not network.training
    start = DomainNetwork(DomainConfig())
    assert not torch.equal(network.head.weight, start.head.weight)


def test_fit_domain__goes_on_from_a_check_and_learns_from_the_pixels_it_sees(data: DomainData) -> None:
    """The detector's pixels, averaged, are what training shows; a small step leaves the check near where it began."""
    torch.manual_seed(1)
    begin = DomainNetwork(DomainConfig(width=4, limit=0.2)).eval()
    network = fit_domain(data, 0.875, begin=begin, steps=1, batch=2, log=lambda line: None)
    assert network.config == DomainConfig(width=4, members=2)
    assert torch.equal(network.beside[0].head.weight, begin.head.weight)
    weights, before = network.head.weight, begin.head.weight
    assert 0 < float((weights - before).abs().max()) < 0.01
    images = torch.randn(2, 3, 64, 96)
    assert torch.allclose(network(images), network.judge(torch.nn.functional.avg_pool2d(images[:, 1, None], 2)))


def test_joined__the_highest_score_counts_and_survives_a_package(tmp_path: Path) -> None:
    shipped = load_package()
    three = constant(-4.0).joined(constant(1.0).joined(constant(-1.0)))
    assert three.config.members == 3
    save_package(tmp_path, shipped.network, shipped.manifest, domain=three)
    loaded = load_package(tmp_path).domain
    assert loaded is not None
    assert loaded(torch.zeros(2, 1, 64, 64)).tolist() == pytest.approx([1.0, 1.0], abs=1e-2)
    with pytest.raises(ValueError, match="members 0"):
        DomainConfig(members=0)


def test_domain_data__every_contrast_and_a_digest_of_all_of_it(data: DomainData) -> None:
    assert len(data.recoloured) == len(data.real) * (COPIES["water"] + COPIES["fat"])
    assert len(data.repainted) == len(data.real) * COPIES["t2"]
    assert len(data.foreign_phantoms) == 2 * len(negatives.FOREIGN_CONTRASTS)
    assert data.fingerprint() == data.fingerprint()
    assert data.fingerprint() != replace(data, objects=data.objects[1:]).fingerprint()


def test_choose_limit__midway_or_for_the_good_exams() -> None:
    good, foreign = np.full(100, 0.01), np.full(100, 0.99)
    assert choose_limit(good, foreign) == pytest.approx(0.5)
    assert 0.01 < choose_limit(good, np.full(100, 0.2)) < 0.2
    good[-1] = 0.9
    assert choose_limit(good, np.full(100, 0.2), share=0.02) < 0.2
    assert choose_limit(np.full(100, 0.6), np.full(100, 0.2)) == pytest.approx(0.6)


def test_with_limit__lets_good_exams_pass(data: DomainData, exam: Exam) -> None:
    network = fit_domain(data, 0.875, steps=1, batch=2, log=lambda line: None)
    limited = with_limit(network, [exam], [], load_package().manifest.preprocessing)
    images = prepare(exam.volume, load_package().manifest.preprocessing).images
    assert domain_score(limited, images, CPU) == domain_score(network, images, CPU)
    assert limited.config.limit >= round(domain_score(network, images, CPU), 3)


def test_count_refusals__sorts_by_kind_and_reason(exam: Exam, tmp_path: Path) -> None:
    shipped = load_package()
    save_package(tmp_path, shipped.network, shipped.manifest, domain=constant(4.0))
    tallies = count_refusals(Detector(load_package(tmp_path), device="cpu"), trials([exam], [], range(1)))
    assert tallies["good phantom"].reasons == {"not_lumbar": 1}
    assert tallies["blank"].reasons == {"unreadable_pixels": 1}
    assert all(tally.count == 1 and not tally.analysed for tally in tallies.values())
