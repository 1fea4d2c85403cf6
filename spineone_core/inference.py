"""From network to ten keypoints: devices, score maps, the chain of levels, calibration. The detector and the trainer share it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from spineone_core.anatomy import Structure
from spineone_core.dicom_series import SeriesError
from spineone_core.findings import Reason
from spineone_core.model_package import Calibration, DecodingConfig, Manifest
from spineone_core.network import SpineOne
from spineone_core.preprocessing import Prepared
from spineone_core.voting import Candidate, Chain, assign_levels, find_candidates, hough_scores


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


def calibrate(probability: float, calibration: Calibration | None) -> float:
    """Platt scaling; unchanged where the package has none for the structure."""
    if calibration is None:
        return probability
    clipped = min(max(probability, 1e-4), 1 - 1e-4)
    logit = math.log(clipped / (1 - clipped))
    return 1 / (1 + math.exp(-(calibration.slope * logit + calibration.intercept)))


def decode(network: SpineOne, prepared: Prepared, manifest: Manifest, device: torch.device) -> Chain:
    """Maps -> candidates -> chain of ten.

    Raises
    ------
    SeriesError
        ``invalid_output``, ``levels_incomplete``, ``levels_implausible`` or ``not_lumbar``.
    """
    spacing, decoding = manifest.preprocessing.spacing_mm, manifest.decoding
    candidates = {
        structure: find_candidates(
            scores,
            suppression=decoding.suppression_mm / spacing,
            window=decoding.window_mm / spacing,
            minimum=decoding.minimum_score,
        )
        for structure, scores in score_maps(network, prepared, decoding, device).items()
    }
    return choose_chain(candidates, spacing, decoding)


@torch.inference_mode()
def score_maps(
    network: SpineOne, prepared: Prepared, decoding: DecodingConfig, device: torch.device
) -> dict[Structure, Tensor]:
    """Hough scores (2, H, W) of both structures; the maps of fused stacks are averaged before voting."""
    images = torch.from_numpy(prepared.images).to(device, memory_format=torch.channels_last)
    maps: dict[Structure, Tensor] = {}
    for structure, output in network(images).items():
        probability = torch.sigmoid(output.logits.float())
        if not torch.isfinite(probability).all():
            raise SeriesError(Reason.INVALID_OUTPUT, "the network's output is not finite")
        offsets = None
        if output.offsets is not None:
            offsets = _average_offsets(output.offsets.float(), probability).cpu()
        maps[structure] = hough_scores(probability.mean(dim=0).cpu(), offsets, decoding.radius_px)
    return maps


def _average_offsets(offsets: Tensor, probability: Tensor) -> Tensor:
    """Mean over the batch, each stack weighted by its own probability."""
    weight = probability.repeat_interleave(2, dim=1).clamp_min(1e-6)
    return (offsets * weight).sum(dim=0) / weight.sum(dim=0)


def choose_chain(candidates: dict[Structure, list[Candidate]], spacing_mm: float, decoding: DecodingConfig) -> Chain:
    """The chain of ten, or the reason why there is none."""
    discs, vertebrae = len(candidates[Structure.DISC]), len(candidates[Structure.VERTEBRA])
    if discs < 5 or vertebrae < 5:
        raise SeriesError(
            Reason.LEVELS_INCOMPLETE, f"{discs} discs and {vertebrae} vertebrae found; five of each are needed"
        )
    chain = assign_levels(candidates, spacing_mm)
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
