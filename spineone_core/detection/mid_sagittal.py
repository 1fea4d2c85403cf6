"""Which slices are analysed: the middle of the stack, or what lies beside it where that is not the middle of the spine."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import torch

from spineone_core.detection.domain_check import finite_score
from spineone_core.detection.preprocessing import Prepared, PreprocessingConfig, prepare, stack_indices
from spineone_core.findings import NotAnalysable, Reason
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.network.domain import MIN_SIDE, DomainNetwork

# So many positions are tried, one slice step apart, the middle among them: 13.5 mm to each side at 4.5 mm.
_POSITIONS = 7
# A picture whose shorter side is under this cannot show the lumbar spine.
MIN_FIELD_MM = 60.0


def prepare_mid_sagittal(
    volume: SagittalVolume, config: PreprocessingConfig, network: DomainNetwork | None, device: torch.device
) -> tuple[Prepared, float | None]:
    """The network's input and its out-of-distribution score, None where the package has no domain check.

    If the patient was scanned askew or has scoliosis, the middle of the stack may lie beside the spinal canal. Where the domain
    check would refuse the middle, the position within 13.5 mm that the check finds most familiar is taken.

    Raises
    ------
    NotAnalysable
        ``field_of_view_too_small`` below ``MIN_FIELD_MM``; as `prepare` does for the middle of the stack, and as `finite_score`
        does for any position.
    """
    field_mm = min(np.array(volume.voxels.shape[1:]) * np.array(volume.pixel_spacing))
    if field_mm < MIN_FIELD_MM:
        _refuse_small(f"field of view {field_mm:.0f} mm is under {MIN_FIELD_MM:.0f} mm")
    middle = prepare(volume, config)
    if network is not None and (side := min(middle.images.shape[-2:])) < MIN_SIDE:
        _refuse_small(f"{side} pixels at {config.spacing_mm} mm are under {MIN_SIDE}")
    score = finite_score(network, middle.images, device)
    if network is None or score is None or score <= network.config.limit:
        return middle, score
    best, lowest = middle, score
    positions = set(stack_indices(volume, middle.slice_index, _POSITIONS, config.slice_step_mm))
    for position in sorted(positions - {middle.slice_index}):
        try:
            beside = prepare(volume, config, position)
        except NotAnalysable:  # blank, at the edge of the stack
            continue
        if (other := finite_score(network, beside.images, device)) is not None and other < lowest:
            best, lowest = beside, other
    return best, lowest


def _refuse_small(detail: str) -> NoReturn:
    raise NotAnalysable(Reason.FIELD_OF_VIEW_TOO_SMALL, detail)


def distance_from_middle_mm(volume: SagittalVolume, prepared: Prepared) -> float:
    """Distance in mm of the analysed slice from the middle of the stack."""
    return abs(prepared.slice_index - volume.middle_index) * volume.slice_step
