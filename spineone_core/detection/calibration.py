"""Calibration: how a structure's raw probability is scaled, and when no class is called."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

# Of what an undecided band limits the share of errors: of all keypoints of a true class, or of its decided ones.
BANDS = ("class", "decided")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What is done with a structure's raw probability.

    It is scaled as sigmoid(slope * logit(p) + intercept) (Platt); a temperature T is slope 1 / T and intercept 0. No class is
    called where the scaled probability lies in ``undecided`` (both ends included); None leaves that to
    ``DecodingConfig.undecided_margin``. The band was made so that at most a share ``error_rate`` is called the other: of a
    true ``class``, or of those of a true class that are ``decided``, as ``band`` says.
    """

    slope: float = 1.0
    intercept: float = 0.0
    undecided: tuple[float, float] | None = None
    error_rate: float | None = None
    band: str = "class"

    def __post_init__(self) -> None:
        if self.band not in BANDS:
            raise ValueError(f"band {self.band!r}; allowed: {', '.join(BANDS)}")
        if self.undecided is not None and not 0 <= self.undecided[0] <= 0.5 <= self.undecided[1] <= 1:
            raise ValueError(f"undecided band {self.undecided}; allowed: from [0, 0.5] to [0.5, 1]")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibration:
        """The calibration that a manifest holds."""
        band = data.get("undecided")
        return cls(**{**data, "undecided": None if band is None else (float(band[0]), float(band[1]))})


def calibrate(probability: float, calibration: Calibration | None) -> float:
    """The scaled probability; unchanged where the package has no calibration for the structure."""
    if calibration is None:
        return probability
    clipped = min(max(probability, 1e-4), 1 - 1e-4)
    logit = math.log(clipped / (1 - clipped))
    return 1 / (1 + math.exp(-(calibration.slope * logit + calibration.intercept)))
