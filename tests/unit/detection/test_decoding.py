"""Decoding of every heatmap, batches, test-time views, doubts about levels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.detection.chain import Chain, assign_top_five, check_levels
from spineone_core.detection.decoding import decode, decode_many
from spineone_core.detection.detector import disagreement
from spineone_core.detection.level_checks import level_notes
from spineone_core.detection.levels import DecodingConfig, choose_chain, choose_known
from spineone_core.detection.model_package import Manifest
from spineone_core.detection.preprocessing import Grid, Prepared, PreprocessingConfig
from spineone_core.detection.views import InferenceOptions, Maps, average, batches, view_maps
from spineone_core.detection.voting import Candidate, find_candidates
from spineone_core.findings import NotAnalysable, Reason
from spineone_core.network.config import NetworkConfig
from spineone_core.network.spineone import SpineOne
from tests.fakes.oracle import GRADES, RADIUS, SIZE, TEN, oracle


def exam(fused: int = 1) -> Prepared:
    ramp = np.linspace(1, -1, SIZE[1], dtype=np.float32)
    images = np.broadcast_to(ramp, (fused, 1, *SIZE)).copy()
    return Prepared(images, Grid(*SIZE, np.eye(2, 3)), 0)


def manifest(**decoding: object) -> Manifest:
    return Manifest(
        name="oracle",
        version="0",
        network=NetworkConfig(),
        preprocessing=PreprocessingConfig(spacing_mm=0.75, slices=1),
        decoding=replace(DecodingConfig(radius_px=RADIUS), **decoding),  # type: ignore[arg-type]
    )


CPU = torch.device("cpu")


def assert_truth(chain: Chain, tolerance: float = 0.1) -> None:
    for candidate, point, grade in zip(chain.candidates, TEN, GRADES, strict=True):
        assert math.hypot(candidate.x - point[0], candidate.y - point[1]) < tolerance
        assert (candidate.probability > 0.5) is (grade is Grade.DEGENERATIVE)


@pytest.mark.parametrize("heatmap", ["ocpc", "conventional"])
def test_decode__true_maps_give_points_and_classes(heatmap: str) -> None:
    assert_truth(decode(oracle(heatmap), exam(fused=3), manifest(), CPU))


def test_decode__the_papers_way_of_levels() -> None:
    assert_truth(decode(oracle("ocpc"), exam(), manifest(assignment="top_five", merge="max"), CPU))


@pytest.mark.parametrize(
    "options",
    [
        InferenceOptions(flips=True),
        InferenceOptions(scales=(1.0, 1.25)),
        InferenceOptions(flips=True, scales=(0.75, 1.0)),
    ],
)
def test_views__agree_with_the_plain_picture(options: InferenceOptions) -> None:
    chain = decode(oracle("ocpc"), exam(), manifest(), CPU, options)
    assert_truth(chain, tolerance=0.3)
    assert len(chain.spread_mm) == 10
    assert max(chain.spread_mm) < 0.4
    assert disagreement(chain) == []


def test_views__that_disagree_are_said() -> None:
    chain = replace(decode(oracle("ocpc"), exam(), manifest(), CPU), spread_mm=(0.0,) * 9 + (7.0,))
    assert disagreement(chain) == ["test-time views disagree by more than 6 mm at L5-S1"]


def test_decode_many__runs_exams_of_one_size_together() -> None:
    network = oracle("ocpc")
    wide = Prepared(np.zeros((1, 1, 288, 160), np.float32), Grid(288, 160, np.eye(2, 3)), 0)
    results = decode_many(network, [exam(), wide, exam(), exam()], manifest(), CPU, InferenceOptions(batch=2))
    assert sorted(network.batches) == [1, 1, 2]
    for index in (0, 2, 3):
        assert isinstance(results[index], Chain)
    assert results[0] == results[2]


def test_batches__keep_sizes_apart() -> None:
    assert batches([(1, 2), (3, 4), (1, 2), (1, 2)], 2) == [[0, 2], [3], [1]]


def test_real_network__gives_in_a_batch_what_it_gives_alone() -> None:
    torch.manual_seed(0)
    config = NetworkConfig(
        backbone="resnet18", slices=1, width=8, decoder_channels=16, low_level_channels=8, feature_channels=16
    )
    network = SpineOne(config).eval()
    images = torch.randn(3, 1, 64, 96)
    together = view_maps(network, images)
    for i in range(3):
        alone = view_maps(network, images[i : i + 1])
        for structure in Structure:
            for a, b in zip(alone[structure], together[structure], strict=True):
                assert torch.allclose(a[0], b[i], atol=1e-5)
    half = view_maps(network, images, precision="bf16")
    assert (half[Structure.DISC].probability - together[Structure.DISC].probability).abs().max() < 5e-3


def test_decode__values_that_are_not_finite_are_refused() -> None:
    maps = Maps(torch.full((1, 2, 4, 4), math.nan), None)
    with pytest.raises(NotAnalysable) as caught:
        average(maps)
    assert caught.value.reason is Reason.INVALID_OUTPUT


def test_decode__levels_that_cannot_be_a_spine_are_refused() -> None:
    network = oracle("conventional")
    spaced = replace(manifest(), preprocessing=PreprocessingConfig(spacing_mm=3.0, slices=1))
    with pytest.raises(NotAnalysable) as caught:
        decode(network, exam(), spaced, CPU)
    assert caught.value.reason is Reason.LEVELS_IMPLAUSIBLE


@pytest.mark.parametrize(
    ("option", "message"),
    [({"precision": "fp8"}, "fp32, bf16"), ({"scales": (2.0,)}, "1 among them"), ({"batch": 0}, "at least 1")],
)
def test_options__name_what_is_allowed(option: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InferenceOptions(**option)  # type: ignore[arg-type]


def test_decoding__names_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="sum, max"):
        DecodingConfig(merge="mean")
    with pytest.raises(ValueError, match="chain, top_five"):
        DecodingConfig(assignment="guess")
    with pytest.raises(ValueError, match="sum, max"):
        find_candidates(torch.zeros(2, 8, 8), suppression=2, window=2, merge="mean")


# ---------------------------------------------------------------- doubts about levels


def chain_of(scores: list[float] | None = None) -> Chain:
    found = [Candidate(100.0, 20.0 + 20 * i, s, 0.5) for i, s in enumerate(scores or [0.9] * 10)]
    chain = check_levels(found, 1.0)
    assert chain is not None
    return chain


def candidates_of(chain: Chain, *more: tuple[Structure, float, float]) -> dict[Structure, list[Candidate]]:
    made: dict[Structure, list[Candidate]] = {s: [] for s in Structure}
    for landmark, candidate in zip(READING_ORDER, chain.candidates, strict=True):
        made[landmark.structure].append(candidate)
    for structure, y, score in more:
        made[structure].append(Candidate(100.0, y, score, 0.5))
    return made


V, D = Structure.VERTEBRA, Structure.DISC


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], None),
        ([(V, 220.0, 0.8)], "below L5-S1"),
        ([(V, 220.0, 0.2)], None),
        ([(D, 0.0, 0.8)], None),
        ([(D, 0.0, 0.8), (V, -20.0, 0.8)], "above L1"),
    ],
)
def test_notes__further_levels(more: list[tuple[Structure, float, float]], expected: str | None) -> None:
    chain = chain_of()
    notes = level_notes(chain, candidates_of(chain, *more))
    assert (len(notes) == 1 and expected in notes[0]) if expected else notes == ()


def test_notes__weak_ends_and_a_short_last_step() -> None:
    weak = chain_of([0.9] * 9 + [0.2])
    assert "L5-S1 hardly visible" in level_notes(weak, candidates_of(weak))[0]
    ordinary = chain_of()
    near = replace(
        ordinary,
        candidates=(*ordinary.candidates[:9], replace(ordinary.candidates[9], y=ordinary.candidates[8].y + 10)),
    )
    assert "rudimentary disc" in level_notes(near, candidates_of(near))[0]


def test_notes__points_at_one_place_end_in_no_error() -> None:
    """A map without a peak may give the same place to neighbours."""
    flat = [Candidate(100.0, 20.0 + 20 * (i // 2), 0.9, 0.5) for i in range(10)]
    chain = Chain(tuple(flat), 0.0, 0.0)
    assert not any("lumbarised" in note for note in level_notes(chain, candidates_of(chain, (V, 20.0, 0.9))))


def test_top_five__points_that_do_not_alternate_are_refused() -> None:
    chain = chain_of()
    found = candidates_of(chain)
    assert assign_top_five(found, 1.0) is not None
    weak = {V: found[V], D: [*found[D][:4], Candidate(100.0, 25.0, 0.9, 0.5)]}
    assert assign_top_five(weak, 1.0) is None
    assert assign_top_five({V: found[V], D: found[D][:4]}, 1.0) is None


def test_choose__without_the_look_at_plausibility_gives_the_strongest_points_as_they_are() -> None:
    """Ten points in a row across the picture are no spine; the paper's tables count them all the same."""
    ten = [Candidate(60.0 * i, 5.0 + 0.1 * i, 0.9, 0.5) for i in range(10)]
    found = {s: ten[place::2] for place, s in enumerate((Structure.VERTEBRA, Structure.DISC))}
    open_gates = DecodingConfig(plausible=False)
    for choose, points in ((choose_known, ten), (choose_chain, found)):
        with pytest.raises(NotAnalysable, match="form a lumbar spine"):
            choose(points, 1.0, DecodingConfig())
        assert list(choose(points, 1.0, open_gates).candidates) == ten
