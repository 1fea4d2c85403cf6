"""Test-time views: the network's maps of resized and mirrored pictures, brought back to the original pixels and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spineone_core.anatomy import Structure
from spineone_core.detection.preprocessing import Prepared
from spineone_core.findings import NotAnalysable, Reason
from spineone_core.network.config import SIZE_MULTIPLE
from spineone_core.network.spineone import BranchOutput, SpineOne

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceOptions:
    """How the network is run; the defaults are the plain way.

    ``precision`` of the network is fp32 or bf16 (channel attention and voting stay in fp32). ``flips`` adds the mirrored
    picture and ``scales`` resized ones; the maps of all these views are averaged. ``compiled`` runs the network through
    ``torch.compile``. Up to ``batch`` exams of the same size run together.
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


def parse_scales(text: str) -> tuple[float, ...]:
    """The sizes of a text such as ``0.9,1,1.1``, for `InferenceOptions`.

    Raises
    ------
    ValueError
        If a part is no number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"scales {text!r}: numbers with commas between them, such as 0.9,1,1.1") from error


class Maps(NamedTuple):
    """One structure's maps of a batch: ``probability`` (B, C, H, W), ``offsets`` (B, 2 L, H, W) in units of R."""

    probability: Tensor
    offsets: Tensor | None


def batches(sizes: Sequence[tuple[int, ...]], most: int) -> list[list[int]]:
    """Indices of exams of the same size, at most ``most`` together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, size in enumerate(sizes):
        groups.setdefault(tuple(size), []).append(index)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def views_of_exams(
    network: SpineOne, exams: Sequence[Prepared], device: torch.device, options: InferenceOptions
) -> list[list[dict[Structure, Maps]]]:
    """The views of each exam; a view holds the maps of the exam's fused stacks, on the CPU."""
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
    """Maps of a resized or mirrored view, brought back to the pixels of the given pictures.

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
    """The pictures at ``scale`` times their size, rounded to multiples of 32."""
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
    """(1, 2 L, 1, 1) factors for offsets in the layout (channel, xy)."""
    return offsets.new_tensor([x, y]).repeat(offsets.shape[1] // 2)[None, :, None, None]


def average(maps: Maps) -> Maps:
    """The mean over the batch (fused stacks, views) as a batch of one; offsets are weighted by their own probability.

    Raises
    ------
    NotAnalysable
        ``invalid_output`` where a value is not finite.
    """
    probability, offsets = maps
    if not torch.isfinite(probability).all() or (offsets is not None and not torch.isfinite(offsets).all()):
        raise NotAnalysable(Reason.INVALID_OUTPUT, "the network's output is not finite")
    if offsets is not None:
        weight = probability[:, : offsets.shape[1] // 2].repeat_interleave(2, dim=1).clamp_min(1e-6)
        offsets = (offsets * weight).sum(dim=0, keepdim=True) / weight.sum(dim=0, keepdim=True)
    return Maps(probability.mean(dim=0, keepdim=True), offsets)
