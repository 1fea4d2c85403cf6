"""Findings and detections: objects that cannot be built invalid, and their JSON (``findings.json``)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from spineone_core.anatomy import READING_ORDER, Grade, Landmark, Structure

_DIGEST = re.compile(r"[0-9a-f]{64}")


class InvalidFindingError(ValueError):
    """A finding or detection breaks a rule; the message names the value and the rule."""


class Status(StrEnum):
    """How the analysis of a study ended."""

    ANALYSED = "analysed"
    NOT_ANALYSABLE = "not_analysable"


class Reason(StrEnum):
    """Why a study was not analysable (coded; stable, people script against it)."""

    NO_IMAGES = "no_images"
    NO_SAGITTAL_T2 = "no_sagittal_t2"
    TOO_FEW_SLICES = "too_few_slices"
    UNREADABLE_PIXELS = "unreadable_pixels"
    INVALID_GEOMETRY = "invalid_geometry"
    FIELD_OF_VIEW_TOO_LARGE = "field_of_view_too_large"
    LEVELS_INCOMPLETE = "levels_incomplete"
    LEVELS_IMPLAUSIBLE = "levels_implausible"
    NOT_LUMBAR = "not_lumbar"
    INVALID_OUTPUT = "invalid_output"


REASON_TEXT: dict[Reason, str] = {
    Reason.NO_IMAGES: "the study holds no MR image that can be read",
    Reason.NO_SAGITTAL_T2: "the study holds no sagittal T2-weighted series",
    Reason.TOO_FEW_SLICES: "the sagittal T2 series has fewer slices than the settings demand",
    Reason.UNREADABLE_PIXELS: "pixel data of the chosen series cannot be decoded",
    Reason.INVALID_GEOMETRY: "the geometry of the chosen series is missing or impossible",
    Reason.FIELD_OF_VIEW_TOO_LARGE: "the images of the chosen series are larger than the analysis can hold",
    Reason.LEVELS_INCOMPLETE: "not all ten levels L1 to L5-S1 were found",
    Reason.LEVELS_IMPLAUSIBLE: "the points found cannot be five lumbar levels (spacing or order)",
    Reason.NOT_LUMBAR: "the images do not look like a sagittal T2 lumbar spine",
    Reason.INVALID_OUTPUT: "the detector's output was not finite",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model produced a detection. ``digest`` is the SHA-256 of the model package, 64 hex digits."""

    name: str
    version: str
    digest: str

    def __post_init__(self) -> None:
        if not self.name or not self.version:
            raise InvalidFindingError("a model needs a name and a version")
        if not _DIGEST.fullmatch(self.digest):
            raise InvalidFindingError(f"model digest {self.digest!r} is not 64 lower-case hex digits")

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "version": self.version, "digest": self.digest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One graded keypoint.

    Parameters
    ----------
    structure, level
        The landmark (see ``anatomy.READING_ORDER``).
    probability
        Calibrated probability in [0, 1] that the structure is degenerative.
    decided
        False where the probability lies too near one half to call.
    x, y
        Column and row in source pixels of the slice, pixel centres at integers.
    xyz_mm
        Patient coordinates, LPS, millimetres.
    localisation_confidence
        In [0, 1]; the Hough score of the chosen point (Eq. 3), clipped.

    Raises
    ------
    InvalidFindingError
        If a value is out of its range or not finite.
    """

    structure: Structure
    level: str
    probability: float
    decided: bool
    x: float
    y: float
    xyz_mm: tuple[float, float, float]
    localisation_confidence: float

    def __post_init__(self) -> None:
        Landmark(self.structure, self.level)
        for name in ("probability", "localisation_confidence"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise InvalidFindingError(f"{self.level}: {name} {value!r} is outside [0, 1]")
        if not all(math.isfinite(v) for v in (self.x, self.y, *self.xyz_mm)):
            raise InvalidFindingError(f"{self.level}: the point is not finite")

    @property
    def grade(self) -> Grade:
        """The likelier class, decided or not."""
        return Grade.DEGENERATIVE if self.probability >= 0.5 else Grade.NORMAL

    @property
    def landmark(self) -> Landmark:
        return Landmark(self.structure, self.level)

    def to_json(self) -> dict[str, Any]:
        return {
            "structure": self.structure.value,
            "level": self.level,
            "class": self.grade.value,
            "decided": self.decided,
            "probability": round(self.probability, 6),
            "x": round(self.x, 3),
            "y": round(self.y, 3),
            "xyz_mm": [round(v, 3) for v in self.xyz_mm],
            "localisation_confidence": round(self.localisation_confidence, 6),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Finding:
        x, y, z = data["xyz_mm"]
        return cls(
            structure=Structure(data["structure"]),
            level=data["level"],
            probability=data["probability"],
            decided=data["decided"],
            x=data["x"],
            y=data["y"],
            xyz_mm=(x, y, z),
            localisation_confidence=data["localisation_confidence"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """The outcome for one study.

    ``analysed`` carries exactly the ten findings of ``anatomy.READING_ORDER``, in that order, and the slice they lie on
    (``frame_number`` counts from 1 and is None for single-frame images); ``not_analysable`` carries a reason and none.
    ``series_uid`` and ``sop_instance_uid`` may be empty only where no series could be chosen. ``ood_score``, in [0, 1], says how
    little the pictures look like what the model was made for; also of a refusal, where it was measured before.
    """

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    model: ModelIdentity
    status: Status
    reason: Reason | None = None
    reason_detail: str = ""
    findings: tuple[Finding, ...] = ()
    frame_number: int | None = None
    ood_score: float | None = None
    warnings: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.status is Status.ANALYSED:
            self._check_analysed()
        else:
            self._check_refused()

    def _check_analysed(self) -> None:
        if self.reason is not None:
            raise InvalidFindingError("an analysed study has no reason for refusal")
        if not (self.series_uid and self.sop_instance_uid):
            raise InvalidFindingError("an analysed study names its series and slice")
        found = tuple(f.landmark for f in self.findings)
        if found != READING_ORDER:
            raise InvalidFindingError(
                f"an analysed study has the ten levels in reading order, not {[f.level for f in found]}"
            )

    def _check_refused(self) -> None:
        if self.reason is None:
            raise InvalidFindingError("a study that is not analysable needs a reason")
        if self.findings:
            raise InvalidFindingError("a study that is not analysable carries no findings")

    @classmethod
    def refused(
        cls,
        model: ModelIdentity,
        study_uid: str,
        reason: Reason,
        detail: str = "",
        *,
        series_uid: str = "",
        warnings: Sequence[str] = (),
        ood_score: float | None = None,
    ) -> Detection:
        """A study that is not analysable; without a detail the reason's own text stands for it."""
        return cls(
            study_uid=study_uid,
            series_uid=series_uid,
            sop_instance_uid="",
            model=model,
            status=Status.NOT_ANALYSABLE,
            reason=reason,
            reason_detail=detail or REASON_TEXT[reason],
            ood_score=ood_score,
            warnings=tuple(warnings),
        )

    @property
    def analysed(self) -> bool:
        return self.status is Status.ANALYSED

    def to_json(self) -> dict[str, Any]:
        """The object of ``findings.json``; keys may be added in later versions, never changed."""
        return {
            "study_uid": self.study_uid,
            "series_uid": self.series_uid,
            "sop_instance_uid": self.sop_instance_uid,
            "frame_number": self.frame_number,
            "model": self.model.to_json(),
            "status": self.status.value,
            "reason": self.reason.value if self.reason else None,
            "reason_detail": self.reason_detail,
            "findings": [f.to_json() for f in self.findings],
            "ood_score": None if self.ood_score is None else round(self.ood_score, 6),
            "warnings": list(self.warnings),
        }

    def dumps(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_json(), ensure_ascii=False)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Detection:
        return cls(
            study_uid=data["study_uid"],
            series_uid=data["series_uid"],
            sop_instance_uid=data["sop_instance_uid"],
            model=ModelIdentity(**data["model"]),
            status=Status(data["status"]),
            reason=Reason(data["reason"]) if data["reason"] else None,
            reason_detail=data.get("reason_detail", ""),
            findings=tuple(Finding.from_json(f) for f in data["findings"]),
            frame_number=data.get("frame_number"),
            ood_score=data.get("ood_score"),
            warnings=tuple(data["warnings"]),
        )


class NotAnalysable(Exception):  # noqa: N818 (an outcome that a report says, not an error)
    """A study or series cannot be analysed. ``reason`` is coded; the message names the value and the rule."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
