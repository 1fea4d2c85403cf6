"""The domain check: how foreign an exam is to the detector, and when that is too much."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from spineone_core.findings import NotAnalysable, Reason
from spineone_core.network.domain import DomainNetwork


@torch.inference_mode()
def domain_score(network: DomainNetwork, images: NDArray[np.float32], device: torch.device) -> float:
    """How foreign an exam's stacks (fused, n, H, W) are: 0 is like the training data, 1 is something else."""
    return float(torch.sigmoid(network(torch.from_numpy(images).to(device)).float()).mean())


def finite_score(network: DomainNetwork | None, images: NDArray[np.float32], device: torch.device) -> float | None:
    """The score of an exam; None where the package has no domain check.

    Raises
    ------
    NotAnalysable
        ``invalid_output`` where it is not finite.
    """
    if network is None:
        return None
    score = domain_score(network, images, device)
    if not math.isfinite(score):
        raise NotAnalysable(Reason.INVALID_OUTPUT, "the out-of-distribution score is not finite")
    return score


def check_score(network: DomainNetwork | None, score: float | None) -> None:
    """Refuse what lies outside the domain.

    Raises
    ------
    NotAnalysable
        ``not_lumbar`` where the score is over the package's limit.
    """
    if network is not None and score is not None and score > network.config.limit:
        detail = f"out-of-distribution score {score:.2f} is over the model's limit {network.config.limit:.2f}"
        raise NotAnalysable(Reason.NOT_LUMBAR, detail)
