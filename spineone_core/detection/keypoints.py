"""From volumes to ten graded keypoints each, or to the reason why there are none.

The detector reports what this module finds, and every evaluation measures it, so what is measured is what ships.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spineone_core.anatomy import READING_ORDER, Landmark
from spineone_core.detection.calibration import calibrate
from spineone_core.detection.chain import Chain
from spineone_core.detection.decoding import decode_many
from spineone_core.detection.domain_check import check_score
from spineone_core.detection.levels import mean_confidence
from spineone_core.detection.mid_sagittal import prepare_mid_sagittal
from spineone_core.detection.model_package import Manifest
from spineone_core.detection.preprocessing import Prepared
from spineone_core.detection.views import InferenceOptions
from spineone_core.findings import NotAnalysable, Reason
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.network.domain import DomainNetwork
from spineone_core.network.spineone import SpineOne


@dataclass(frozen=True, slots=True)
class Keypoint:
    """One level of a spine.

    ``x`` and ``y`` are column and row in source pixels of the analysed slice, pixel centres at integers. ``probability`` is
    the calibrated probability of degeneration; ``decided`` is False where it is too near one half to call a class.
    ``confidence``, in [0, 1], says how sure the place is.
    """

    landmark: Landmark
    x: float
    y: float
    probability: float
    decided: bool
    confidence: float


@dataclass(frozen=True, slots=True, eq=False)
class FoundKeypoints:
    """The ten keypoints of a volume in reading order, and what they were found in.

    ``ood_score``, in [0, 1], says how little the pictures look like what the model was made for: the domain check's score, or
    how far the mean confidence is from 1 where the package has no domain check.
    """

    keypoints: tuple[Keypoint, ...]
    chain: Chain
    prepared: Prepared
    ood_score: float


@dataclass(frozen=True, slots=True, eq=False)
class Refusal:
    """Why a volume has no keypoints; ``ood_score`` is the domain check's, None where it was not measured before."""

    error: NotAnalysable
    ood_score: float | None


def find_keypoints(
    volumes: Sequence[SagittalVolume],
    network: SpineOne,
    manifest: Manifest,
    device: torch.device,
    *,
    domain: DomainNetwork | None = None,
    options: InferenceOptions | None = None,
    keep_outside: bool = False,
) -> list[FoundKeypoints | Refusal]:
    """What the detector makes of each volume. Volumes of the same size run together; that does not change their results.

    Parameters
    ----------
    network
        In evaluation mode, on ``device``.
    domain
        The domain check, in evaluation mode, on ``device``; None where the package has none.
    options
        How the network is run; the defaults where None.
    keep_outside
        Keep points outside the image, which the detector refuses. Only the paper's tables, which know no refusal, need this.
    """
    results: dict[int, FoundKeypoints | Refusal] = {}
    prepared: dict[int, Prepared] = {}
    scores: dict[int, float | None] = {}
    for i, volume in enumerate(volumes):
        try:
            exam, scores[i] = prepare_mid_sagittal(volume, manifest.preprocessing, domain, device)
            check_score(domain, scores[i])
            prepared[i] = exam
        except NotAnalysable as error:
            results[i] = Refusal(error, scores.get(i))
    chains = decode_many(network, list(prepared.values()), manifest, device, options)
    for (i, exam), chain in zip(prepared.items(), chains, strict=True):
        results[i] = _in_source_pixels(chain, exam, volumes[i], manifest, scores[i], keep_outside)
    return [results[i] for i in range(len(volumes))]


def _in_source_pixels(
    chain: Chain | NotAnalysable,
    prepared: Prepared,
    volume: SagittalVolume,
    manifest: Manifest,
    score: float | None,
    keep_outside: bool,
) -> FoundKeypoints | Refusal:
    if isinstance(chain, NotAnalysable):
        return Refusal(chain, score)
    try:
        keypoints = _keypoints(chain, prepared, volume, manifest, keep_outside)
    except NotAnalysable as error:
        return Refusal(error, score)
    return FoundKeypoints(
        keypoints, chain, prepared, ood_score=1 - mean_confidence(chain.candidates) if score is None else score
    )


def _keypoints(
    chain: Chain, prepared: Prepared, volume: SagittalVolume, manifest: Manifest, keep_outside: bool
) -> tuple[Keypoint, ...]:
    """The keypoints; raises ``NotAnalysable`` (``invalid_output``) if one lies outside the image, in the padding."""
    keypoints = []
    rows, columns = volume.voxels.shape[1:]
    for landmark, candidate in zip(READING_ORDER, chain.candidates, strict=True):
        x, y = prepared.grid.to_source(np.array([candidate.x, candidate.y]))
        inside = -0.5 <= x <= columns - 0.5 and -0.5 <= y <= rows - 0.5
        if not (inside or keep_outside):
            raise NotAnalysable(Reason.INVALID_OUTPUT, f"{landmark.name} lies outside the image")
        probability = calibrate(candidate.probability, manifest.calibration.get(landmark.structure.value))
        decided = manifest.decides(landmark.structure, probability)
        confidence = min(1.0, candidate.score)
        keypoints.append(Keypoint(landmark, float(x), float(y), probability, decided, confidence))
    return tuple(keypoints)
