"""From volumes to ten graded keypoints each, or to the reason why there are none.

The detector reports what this module finds, and every evaluation measures it, so what is measured is what ships.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from spineone_core.anatomy import READING_ORDER, Landmark
from spineone_core.detection.calibration import calibrate
from spineone_core.detection.chain import Chain
from spineone_core.detection.class_rule import ClassRule
from spineone_core.detection.decoding import decode_many
from spineone_core.detection.domain_check import check_score
from spineone_core.detection.grading import Graded, Grading, grade_keypoints
from spineone_core.detection.level_checks import check_room_below
from spineone_core.detection.levels import mean_confidence
from spineone_core.detection.mid_sagittal import prepare_mid_sagittal
from spineone_core.detection.model_package import Manifest
from spineone_core.detection.preprocessing import Prepared
from spineone_core.detection.views import InferenceOptions
from spineone_core.findings import NotAnalysable, PfirrmannGrade, Reason
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.network.domain import DomainNetwork
from spineone_core.network.spineone import SpineOne


@dataclass(frozen=True, slots=True)
class Keypoint:
    """One level of a spine.

    ``x`` and ``y`` are column and row in source pixels of the analysed slice, pixel centres at integers. ``probability`` is
    the calibrated probability of degeneration; ``decided`` is False where it lies in the band in which no class is called.
    ``confidence``, in [0, 1], says how sure the place is. Where nothing is refused (``DecodingConfig.plausible``), ``x`` and
    ``y`` are NaN at a level that was not found. ``pfirrmann`` and ``signs`` as in `spineone_core.findings.Finding`.
    """

    landmark: Landmark
    x: float
    y: float
    probability: float
    decided: bool
    confidence: float
    pfirrmann: PfirrmannGrade | None = None
    signs: tuple[tuple[str, float], ...] = ()


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
    grading: Grading | None = None,
    options: InferenceOptions | None = None,
    rule: ClassRule | None = None,
) -> list[FoundKeypoints | Refusal]:
    """What the detector makes of each volume. Volumes of the same size run together; that does not change their results.

    Parameters
    ----------
    network
        In evaluation mode, on ``device``.
    domain
        The domain check, in evaluation mode, on ``device``; None where the package has none.
    grading
        The grading networks, in evaluation mode, on ``device``. The class of their structures comes from them, and the
        manifest's calibration is theirs. None where the package has none, and where only the places are asked for.
    options
        How the network is run; the defaults where None.
    rule
        The site's rule of what a degenerative disc is; the model's own class where None.
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
        found = _in_source_pixels(chain, exam, volumes[i], manifest, scores[i])
        results[i] = _graded(found, volumes[i], manifest, grading or {}, device, rule or ClassRule())
    return [results[i] for i in range(len(volumes))]


def _graded(
    found: FoundKeypoints | Refusal,
    volume: SagittalVolume,
    manifest: Manifest,
    grading: Grading,
    device: torch.device,
    rule: ClassRule,
) -> FoundKeypoints | Refusal:
    """The same keypoints with what the grading networks say of them."""
    if isinstance(found, Refusal) or not grading:
        return found
    points = np.array([(keypoint.x, keypoint.y) for keypoint in found.keypoints])
    try:
        said = grade_keypoints(volume, found.prepared.slice_index, points, grading, manifest.calibration, device)
    except NotAnalysable as error:
        return Refusal(error, found.ood_score)
    keypoints = [
        _with_grade(keypoint, said[row], manifest, rule) if row in said else keypoint
        for row, keypoint in enumerate(found.keypoints)
    ]
    return replace(found, keypoints=tuple(keypoints))


def _with_grade(keypoint: Keypoint, graded: Graded, manifest: Manifest, rule: ClassRule) -> Keypoint:
    structure = keypoint.landmark.structure
    by_rule = rule.probability(graded.pfirrmann)
    if by_rule is None:
        probability = calibrate(graded.probability, manifest.calibration.get(structure.value))
        decided = manifest.decides(structure, probability)
    else:
        # The package's band was measured for its own class; of a rule only the calibrated probability is known.
        probability, decided = by_rule, abs(by_rule - 0.5) >= manifest.decoding.undecided_margin
    return replace(
        keypoint,
        probability=probability,
        decided=decided,
        pfirrmann=graded.pfirrmann,
        signs=graded.signs,
    )


def _in_source_pixels(
    chain: Chain | NotAnalysable,
    prepared: Prepared,
    volume: SagittalVolume,
    manifest: Manifest,
    score: float | None,
) -> FoundKeypoints | Refusal:
    if isinstance(chain, NotAnalysable):
        return Refusal(chain, score)
    try:
        if manifest.decoding.plausible:
            chain = replace(chain, notes=(*chain.notes, *check_room_below(chain, prepared)))
        keypoints = _keypoints(chain, prepared, volume, manifest)
    except NotAnalysable as error:
        return Refusal(error, score)
    return FoundKeypoints(
        keypoints, chain, prepared, ood_score=1 - mean_confidence(chain.candidates) if score is None else score
    )


def _keypoints(chain: Chain, prepared: Prepared, volume: SagittalVolume, manifest: Manifest) -> tuple[Keypoint, ...]:
    """The keypoints; raises ``NotAnalysable`` (``invalid_output``) if one lies outside the image, in the padding."""
    keypoints = []
    rows, columns = volume.voxels.shape[1:]
    for landmark, candidate in zip(READING_ORDER, chain.candidates, strict=True):
        x, y = prepared.grid.to_source(np.array([candidate.x, candidate.y]))
        inside = -0.5 <= x <= columns - 0.5 and -0.5 <= y <= rows - 0.5
        if not (inside or candidate.is_absent):
            raise NotAnalysable(Reason.INVALID_OUTPUT, f"{landmark.name} lies outside the image")
        probability = calibrate(candidate.probability, manifest.calibration.get(landmark.structure.value))
        decided = manifest.decides(landmark.structure, probability)
        confidence = min(1.0, candidate.score)
        keypoints.append(Keypoint(landmark, float(x), float(y), probability, decided, confidence))
    return tuple(keypoints)
