"""From network to ten keypoints: devices, score maps, the chain of levels, calibration. The detector and the trainer share it."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spineone_core.anatomy import READING_ORDER, Structure
from spineone_core.detection.level_checks import level_notes
from spineone_core.detection.model_package import Calibration, DecodingConfig, Manifest
from spineone_core.detection.preprocessing import Prepared
from spineone_core.detection.voting import (
    Candidate,
    Chain,
    assign_levels,
    assign_top_five,
    check_levels,
    find_candidates,
    find_levels,
    hough_scores,
    strongest_ten,
)
from spineone_core.findings import Reason
from spineone_core.imaging.series import SeriesError
from spineone_core.network.spineone import SIZE_MULTIPLE, BranchOutput, SpineOne
from spineone_core.network.two_stage import TwoStage

PRECISIONS = ("fp32", "bf16")


class DeviceError(Exception):
    """The asked-for device is not there; the message names it."""


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is a GPU, the CPU otherwise.

    Raises
    ------
    DeviceError
        If CUDA is asked for and not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"device {name} is not available: {torch.cuda.device_count()} CUDA devices found")
    return device


def gpu_memory(device: torch.device) -> tuple[str, int, int] | None:
    """Name of a CUDA device, bytes free and bytes in all, whoever uses them; None where the device is no GPU."""
    if device.type != "cuda":
        return None
    index = torch.cuda.current_device() if device.index is None else device.index
    free, total = torch.cuda.mem_get_info(index)
    return f"cuda:{index}", free, total


def has_compiler(device: torch.device) -> bool:
    """Whether ``torch.compile`` can build code for the device: on the CPU it calls a C++ compiler, on CUDA it brings its own."""
    return device.type == "cuda" or any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++"))))


def compile_network(network: SpineOne, device: torch.device) -> None:
    """``torch.compile`` for pictures of every size; the first picture waits for it, a minute or more.

    Raises
    ------
    DeviceError
        If the machine cannot compile.
    """
    if not has_compiler(device):
        raise DeviceError(f"the option compiled on {device} needs a C++ compiler (g++ or clang++), which is not there")
    network.compile(dynamic=True)


def calibrate(probability: float, calibration: Calibration | None) -> float:
    """Platt scaling; unchanged where the package has none for the structure."""
    if calibration is None:
        return probability
    clipped = min(max(probability, 1e-4), 1 - 1e-4)
    logit = math.log(clipped / (1 - clipped))
    return 1 / (1 + math.exp(-(calibration.slope * logit + calibration.intercept)))


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceOptions:
    """How the network is run; the defaults are the plain way.

    ``precision`` of the network, fp32 or bf16 (channel attention and voting stay in fp32); ``flips`` adds the mirrored picture,
    ``scales`` resized ones: test-time views, whose maps are averaged; ``compiled`` goes through ``torch.compile``; up to
    ``batch`` exams of one size run together.
    """

    precision: str = "fp32"
    flips: bool = False
    scales: tuple[float, ...] = (1.0,)
    compiled: bool = False
    batch: int = 8

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r}; allowed: {', '.join(PRECISIONS)}")
        if 1.0 not in self.scales or not all(0.5 <= s <= 2 for s in self.scales):
            raise ValueError(f"scales {self.scales}; allowed: 0.5 to 2, 1 among them")
        if self.batch < 1:
            raise ValueError(f"batch {self.batch}; allowed: at least 1")


class Maps(NamedTuple):
    """Of one structure and every picture of a batch: ``probability`` (B, C, H, W), ``offsets`` (B, 2 L, H, W) in units of R."""

    probability: Tensor
    offsets: Tensor | None


def decode(
    network: SpineOne,
    prepared: Prepared,
    manifest: Manifest,
    device: torch.device,
    options: InferenceOptions | None = None,
) -> Chain:
    """Maps -> candidates -> chain of ten.

    Raises
    ------
    SeriesError
        ``invalid_output``, ``levels_incomplete``, ``levels_implausible`` or ``not_lumbar``.
    """
    result = decode_many(network, [prepared], manifest, device, options)[0]
    if isinstance(result, SeriesError):
        raise result
    return result


def decode_many(
    network: SpineOne,
    exams: Sequence[Prepared],
    manifest: Manifest,
    device: torch.device,
    options: InferenceOptions | None = None,
) -> list[Chain | SeriesError]:
    """The chain of each exam, or why there is none. Exams of one size run together; nothing is padded for that."""
    options = options or InferenceOptions()
    results: dict[int, Chain | SeriesError] = {}
    for indices in batches([exam.images.shape[-2:] for exam in exams], options.batch):
        group = [exams[i] for i in indices]
        for index, views in zip(indices, _views_of_exams(network, group, device, options), strict=True):
            try:
                results[index] = _decode_views(network, exams[index], views, manifest, device)
            except SeriesError as error:
                results[index] = error
    return [results[i] for i in range(len(exams))]


def batches(sizes: Sequence[tuple[int, ...]], most: int) -> list[list[int]]:
    """Indices of exams of one size, at most ``most`` together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, size in enumerate(sizes):
        groups.setdefault(tuple(size), []).append(index)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def _views_of_exams(
    network: SpineOne, exams: Sequence[Prepared], device: torch.device, options: InferenceOptions
) -> list[list[dict[Structure, Maps]]]:
    """For each exam its views, each with the maps of its fused stacks on the CPU."""
    images = torch.from_numpy(np.concatenate([exam.images for exam in exams])).to(device)
    counts = [len(exam.images) for exam in exams]
    split: list[list[dict[Structure, Maps]]] = [[] for _ in exams]
    for scale in options.scales:
        for flip in (False, True) if options.flips else (False,):
            maps = view_maps(network, images, scale=scale, flip=flip, precision=options.precision)
            for place, parts in enumerate(_split(maps, counts)):
                split[place].append(parts)
    return split


def _split(maps: dict[Structure, Maps], counts: Sequence[int]) -> list[dict[Structure, Maps]]:
    starts = np.cumsum([0, *counts])
    return [
        {s: Maps(*(None if t is None else t[a:b] for t in m)) for s, m in maps.items()}  # type: ignore[arg-type]
        for a, b in pairwise(starts.tolist())
    ]


@torch.inference_mode()
def view_maps(
    network: SpineOne, images: Tensor, *, scale: float = 1.0, flip: bool = False, precision: str = "fp32"
) -> dict[Structure, Maps]:
    """Maps of a resized, mirrored view, brought back to the given pictures' pixels.

    Parameters
    ----------
    images
        (B, n, H, W) on the network's device.
    """
    size, seen = images.shape[-2:], _resize(images, scale)
    if flip:
        seen = seen.flip(-1)
    seen = seen.contiguous(memory_format=torch.channels_last)
    with torch.autocast(seen.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        outputs: dict[Structure, BranchOutput] = network(seen)
    factors = (seen.shape[-1] / size[1], seen.shape[-2] / size[0])
    return {s: _back(output, flip, factors, size) for s, output in outputs.items()}


def _resize(images: Tensor, scale: float) -> Tensor:
    """To the multiples of 32 nearest to ``scale`` times the size."""
    if scale == 1.0:
        return images
    size = [max(1, round(n * scale / SIZE_MULTIPLE)) * SIZE_MULTIPLE for n in images.shape[-2:]]
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def _back(output: BranchOutput, flip: bool, factors: tuple[float, float], size: Sequence[int]) -> Maps:
    probability = torch.sigmoid(output.logits.float())
    offsets = None if output.offsets is None else output.offsets.float()
    if flip:
        probability = probability.flip(-1)
        offsets = None if offsets is None else offsets.flip(-1) * _per_axis(offsets, -1.0, 1.0)
    if factors != (1.0, 1.0):
        probability = F.interpolate(probability, size=tuple(size), mode="bilinear", align_corners=False)
        if offsets is not None:
            offsets = F.interpolate(offsets, size=tuple(size), mode="bilinear", align_corners=False)
            offsets = offsets * _per_axis(offsets, 1 / factors[0], 1 / factors[1])
    return Maps(probability.cpu(), None if offsets is None else offsets.cpu())


def _per_axis(offsets: Tensor, x: float, y: float) -> Tensor:
    """(1, 2 L, 1, 1) factors of the layout (channel, xy)."""
    return offsets.new_tensor([x, y]).repeat(offsets.shape[1] // 2)[None, :, None, None]


def _decode_views(
    network: SpineOne,
    exam: Prepared,
    views: Sequence[dict[Structure, Maps]],
    manifest: Manifest,
    device: torch.device,
) -> Chain:
    """The chain of all views' averaged maps; with more than one view also how far they disagree."""
    merged = {s: Maps(*_concatenate([view[s] for view in views])) for s in views[0]}
    chain = _chain_of_maps(network, exam, merged, manifest, device)
    if len(views) == 1:
        return chain
    alone: list[Chain | None] = []
    for view in views:
        try:
            alone.append(_chain_of_maps(network, exam, view, manifest, device))
        except SeriesError:
            alone.append(None)
    return replace(chain, spread_mm=_spread(chain, alone, manifest.preprocessing.spacing_mm))


def _concatenate(maps: Sequence[Maps]) -> tuple[Tensor, Tensor | None]:
    offsets = [m.offsets for m in maps if m.offsets is not None]
    return torch.cat([m.probability for m in maps]), torch.cat(offsets) if offsets else None


def _spread(chain: Chain, views: Sequence[Chain | None], spacing_mm: float) -> tuple[float, ...]:
    """Largest distance in mm of a view's keypoint from the chain's, of each level; infinite where a view refuses."""
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
    located = network.config.located_channels
    scores = {
        s: hough_scores(m.probability[0, :located], _first(m.offsets), decoding.radius_px) for s, m in averaged.items()
    }
    if network.config.heatmap == "ocpc":
        return choose_chain(_candidates(scores, spacing, decoding), spacing, decoding)
    levels = {}
    for s, m in averaged.items():
        classes = None if network.config.two_stage else m.probability[0, located:]
        levels[s] = find_levels(scores[s], classes, window=decoding.window_mm / spacing, radius=decoding.radius_px)
    ten = [levels[landmark.structure][i // 2] for i, landmark in enumerate(READING_ORDER)]
    if isinstance(network, TwoStage):
        ten = classify_crops(network, exam, ten, spacing, device)
    return choose_known(ten, spacing, decoding)


def _first(maps: Tensor | None) -> Tensor | None:
    return None if maps is None else maps[0]


def average(maps: Maps) -> Maps:
    """Mean over the batch (fused stacks, views), offsets weighted by their own probability; a batch of one comes out.

    Raises
    ------
    SeriesError
        ``invalid_output`` where a value is not finite.
    """
    probability, offsets = maps
    if not torch.isfinite(probability).all() or (offsets is not None and not torch.isfinite(offsets).all()):
        raise SeriesError(Reason.INVALID_OUTPUT, "the network's output is not finite")
    if offsets is not None:
        weight = probability[:, : offsets.shape[1] // 2].repeat_interleave(2, dim=1).clamp_min(1e-6)
        offsets = (offsets * weight).sum(dim=0, keepdim=True) / weight.sum(dim=0, keepdim=True)
    return Maps(probability.mean(dim=0, keepdim=True), offsets)


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
    """The second stage: P(degenerative) of each keypoint from its crop, averaged over the fused stacks."""
    images = torch.from_numpy(exam.images).to(device)
    points = torch.tensor([[(c.x, c.y) for c in ten]], device=device).expand(len(images), -1, -1)
    probability = network.classify(images, points, spacing_mm).float().softmax(dim=-1)[..., 1].mean(dim=0)
    if not torch.isfinite(probability).all():
        raise SeriesError(Reason.INVALID_OUTPUT, "the classifier's output is not finite")
    return [replace(c, probability=p) for c, p in zip(ten, probability.tolist(), strict=True)]


def choose_chain(candidates: dict[Structure, list[Candidate]], spacing_mm: float, decoding: DecodingConfig) -> Chain:
    """The chain of ten, or the reason why there is none."""
    discs, vertebrae = len(candidates[Structure.DISC]), len(candidates[Structure.VERTEBRA])
    if discs < 5 or vertebrae < 5:
        raise SeriesError(
            Reason.LEVELS_INCOMPLETE, f"{discs} discs and {vertebrae} vertebrae found; five of each are needed"
        )
    assign = assign_levels if decoding.assignment == "chain" else assign_top_five
    found = assign(candidates, spacing_mm) or _as_found(strongest_ten(candidates), decoding)
    chain = _accept(found, decoding)
    return replace(chain, notes=level_notes(chain, candidates))


def choose_known(ten: Sequence[Candidate], spacing_mm: float, decoding: DecodingConfig) -> Chain:
    """Ten keypoints of known level, or the reason why they cannot be."""
    return _accept(check_levels(ten, spacing_mm) or _as_found(ten, decoding), decoding)


def _as_found(ten: Sequence[Candidate] | None, decoding: DecodingConfig) -> Chain | None:
    """Ten points without a look at whether they can be a spine, where the config asks for that."""
    if decoding.plausible or ten is None:
        return None
    return Chain(tuple(ten), -math.inf, math.inf)


def _accept(chain: Chain | None, decoding: DecodingConfig) -> Chain:
    if chain is None:
        raise SeriesError(Reason.LEVELS_IMPLAUSIBLE, "no ten of the points found form a lumbar spine")
    weakest = min(chain.candidates, key=lambda c: c.score)
    if weakest.score < decoding.minimum_confidence:
        raise SeriesError(Reason.LEVELS_INCOMPLETE, f"a level was found with a confidence of only {weakest.score:.2f}")
    mean = mean_confidence(chain.candidates)
    if mean < decoding.minimum_mean_confidence:
        raise SeriesError(
            Reason.NOT_LUMBAR, f"mean confidence {mean:.2f} is under {decoding.minimum_mean_confidence:.2f}"
        )
    return chain


def mean_confidence(candidates: Sequence[Candidate]) -> float:
    return sum(min(1.0, c.score) for c in candidates) / len(candidates)
