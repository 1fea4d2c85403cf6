"""From prepared pictures to the chain of ten levels: the network's maps of all views, their scores, the chain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from spineone_core.anatomy import READING_ORDER, Structure
from spineone_core.detection.chain import Chain
from spineone_core.detection.levels import DecodingConfig, choose_chain, choose_known
from spineone_core.detection.model_package import Manifest
from spineone_core.detection.preprocessing import Prepared
from spineone_core.detection.views import InferenceOptions, Maps, average, batches, views_of_exams
from spineone_core.detection.voting import Candidate, find_candidates, find_levels, hough_scores
from spineone_core.findings import NotAnalysable, Reason
from spineone_core.network.config import CLASS_HEATMAPS
from spineone_core.network.spineone import SpineOne
from spineone_core.network.two_stage import TwoStage


def decode(
    network: SpineOne,
    prepared: Prepared,
    manifest: Manifest,
    device: torch.device,
    options: InferenceOptions | None = None,
) -> Chain:
    """The chain of one exam: the network's maps, their candidates, the chain of ten.

    Raises
    ------
    NotAnalysable
        ``invalid_output``, ``levels_incomplete``, ``levels_implausible`` or ``not_lumbar``.
    """
    result = decode_many(network, [prepared], manifest, device, options)[0]
    if isinstance(result, NotAnalysable):
        raise result
    return result


def decode_many(
    network: SpineOne,
    exams: Sequence[Prepared],
    manifest: Manifest,
    device: torch.device,
    options: InferenceOptions | None = None,
) -> list[Chain | NotAnalysable]:
    """The chain of each exam, or why there is none. Exams of the same size run together; no exam is padded for that."""
    options = options or InferenceOptions()
    results: dict[int, Chain | NotAnalysable] = {}
    for indices in batches([exam.images.shape[-2:] for exam in exams], options.batch):
        group = [exams[i] for i in indices]
        for index, views in zip(indices, views_of_exams(network, group, device, options), strict=True):
            try:
                results[index] = _decode_views(network, exams[index], views, manifest, device)
            except NotAnalysable as error:
                results[index] = error
    return [results[i] for i in range(len(exams))]


def _decode_views(
    network: SpineOne,
    exam: Prepared,
    views: Sequence[dict[Structure, Maps]],
    manifest: Manifest,
    device: torch.device,
) -> Chain:
    """The chain from the averaged maps of all views; with more than one view it also says how far they disagree."""
    merged = {s: Maps(*_concatenate([view[s] for view in views])) for s in views[0]}
    chain = _chain_of_maps(network, exam, merged, manifest, device)
    if len(views) == 1:
        return chain
    alone: list[Chain | None] = []
    for view in views:
        try:
            alone.append(_chain_of_maps(network, exam, view, manifest, device))
        except NotAnalysable:
            alone.append(None)
    return replace(chain, spread_mm=_spread(chain, alone, manifest.preprocessing.spacing_mm))


def _concatenate(maps: Sequence[Maps]) -> tuple[Tensor, Tensor | None]:
    offsets = [m.offsets for m in maps if m.offsets is not None]
    return torch.cat([m.probability for m in maps]), torch.cat(offsets) if offsets else None


def _spread(chain: Chain, views: Sequence[Chain | None], spacing_mm: float) -> tuple[float, ...]:
    """For each level, the largest distance in mm of a view's keypoint from the chain's; infinite where a view refuses."""
    if any(view is None for view in views):
        return (math.inf,) * len(chain.candidates)
    return tuple(
        max(math.hypot(v.candidates[i].x - c.x, v.candidates[i].y - c.y) for v in views if v is not None) * spacing_mm
        for i, c in enumerate(chain.candidates)
    )


def _chain_of_maps(
    network: SpineOne, exam: Prepared, maps: dict[Structure, Maps], manifest: Manifest, device: torch.device
) -> Chain:
    spacing, decoding = manifest.preprocessing.spacing_mm, manifest.decoding
    averaged = {s: average(m) for s, m in maps.items()}
    located = {s: network.config.located_channels(s) for s in averaged}
    scores = {
        s: hough_scores(m.probability[0, : located[s]], _first(m.offsets), decoding.radius_px)
        for s, m in averaged.items()
    }
    if not decoding.plausible:
        # Where every point counts, those in the padding must not take a place. The detector refuses an exam with such a point.
        scores = {s: score[:, : exam.grid.rows, : exam.grid.columns].contiguous() for s, score in scores.items()}
    if network.config.heatmap in CLASS_HEATMAPS:
        return choose_chain(_candidates(scores, spacing, decoding), spacing, decoding)
    levels = {}
    for s, m in averaged.items():
        classes = None if network.config.two_stage else m.probability[0, located[s] :]
        levels[s] = find_levels(
            scores[s],
            classes,
            window=decoding.window_mm / spacing,
            radius=decoding.radius_px,
            minimum=decoding.minimum_score,
        )
    ten = [levels[landmark.structure][i // 2] for i, landmark in enumerate(READING_ORDER)]
    if isinstance(network, TwoStage):
        ten = classify_crops(network, exam, ten, spacing, device)
    return choose_known(ten, spacing, decoding)


def _first(maps: Tensor | None) -> Tensor | None:
    return None if maps is None else maps[0]


def _candidates(
    scores: dict[Structure, Tensor], spacing_mm: float, decoding: DecodingConfig
) -> dict[Structure, list[Candidate]]:
    return {
        structure: find_candidates(
            score,
            suppression=decoding.suppression_mm / spacing_mm,
            window=decoding.window_mm / spacing_mm,
            minimum=decoding.minimum_score,
            merge=decoding.merge,
        )
        for structure, score in scores.items()
    }


@torch.inference_mode()
def classify_crops(
    network: TwoStage, exam: Prepared, ten: Sequence[Candidate], spacing_mm: float, device: torch.device
) -> list[Candidate]:
    """The second stage: P(degenerative) of each keypoint that was found, from its crop, averaged over the fused stacks."""
    images = torch.from_numpy(exam.images).to(device)
    places = [(0.0, 0.0) if c.is_absent else (c.x, c.y) for c in ten]
    points = torch.tensor([places], device=device).expand(len(images), -1, -1)
    probability = network.classify(images, points, spacing_mm).float().softmax(dim=-1)[..., 1].mean(dim=0)
    if not torch.isfinite(probability).all():
        raise NotAnalysable(Reason.INVALID_OUTPUT, "the classifier's output is not finite")
    return [
        c if c.is_absent else replace(c, probability=p, category=int(p >= 0.5))
        for c, p in zip(ten, probability.tolist(), strict=True)
    ]
