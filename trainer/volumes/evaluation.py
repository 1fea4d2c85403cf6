"""Detection rates of the 3-D variant on CT volumes (Table V; Eq. 8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from spineone_core.arrays import FloatArray
from trainer.evaluation.metrics import HIT_MM
from trainer.volumes.exam import VolumeExam
from trainer.volumes.network import STRIDE, SpineOneVolume
from trainer.volumes.package import VolumeManifest
from trainer.volumes.preprocessing import prepare_volume
from trainer.volumes.voting import detect_vertebrae

# In the challenge, a vertebra counts as found within 20 mm.
CHALLENGE_MM = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class VolumeOutcome:
    """``truth`` (K, 3) and ``found`` (J, 3) of one scan: x, y, z in mm."""

    exam_id: str
    patient: str
    truth: FloatArray
    found: FloatArray

    def hits(self, distance_mm: float) -> float:
        """The number of true vertebrae with a detection within the distance, matched one to one."""
        return detection_rate(self.truth, self.found, (1.0, 1.0, 1.0), distance_mm) * len(self.truth)


def evaluate_volumes(
    network: SpineOneVolume, manifest: VolumeManifest, exams: Iterable[VolumeExam], device: torch.device
) -> list[VolumeOutcome]:
    """One outcome for each scan. Whole scans go through the network, whatever their length."""
    return [evaluate_volume(network, manifest, exam, device) for exam in exams]


def evaluate_volume(
    network: SpineOneVolume, manifest: VolumeManifest, exam: VolumeExam, device: torch.device
) -> VolumeOutcome:
    """The outcome of one scan."""
    multiples = [STRIDE * f for f in manifest.network.reduction]
    prepared = prepare_volume(exam.voxels, exam.spacing_mm, manifest.preprocessing, multiples)
    found = prepared.to_source(detect_vertebrae(network, prepared.voxels.to(device), suppression=manifest.suppression))
    spacing = np.array(exam.spacing_mm)
    return VolumeOutcome(exam.exam_id, exam.patient, exam.points * spacing, found * spacing)


def volume_figures(outcomes: Sequence[VolumeOutcome]) -> dict[str, float | int]:
    """Detection rates over all vertebrae within the challenge's 20 mm and the paper's 6 mm, and the outputs that hit none."""
    total = sum(len(o.truth) for o in outcomes)
    hits = {d: sum(o.hits(d) for o in outcomes) for d in (CHALLENGE_MM, HIT_MM)}
    return {
        "scans": len(outcomes),
        "vertebrae": total,
        "detection_rate_20mm": hits[CHALLENGE_MM] / total if total else 0.0,
        "detection_rate_6mm": hits[HIT_MM] / total if total else 0.0,
        "strays": round(sum(len(o.found) for o in outcomes) - hits[CHALLENGE_MM]),
    }


def detection_rate(
    truth: FloatArray, found: FloatArray, spacing_mm: tuple[float, float, float], distance_mm: float = CHALLENGE_MM
) -> float:
    """The share of true centroids with a detection within the distance, matched one to one (Eq. 8; Table V).

    Parameters
    ----------
    truth, found
        (K, 3), (J, 3) x, y, z in voxels.
    spacing_mm
        (x, y, z).
    distance_mm
        20 in the challenge; the paper's own PCK uses 6.
    """
    if min(spacing_mm) <= 0 or not distance_mm > 0:
        raise ValueError(f"spacing {spacing_mm} and distance {distance_mm} must be positive")
    if not len(truth) or not len(found):
        return 0.0
    between = np.linalg.norm((truth[:, None] - found[None]) * np.array(spacing_mm), axis=2)
    rows, columns = linear_sum_assignment(np.where(between <= distance_mm, between, 1e6))
    return float((between[rows, columns] <= distance_mm).sum() / len(truth))
