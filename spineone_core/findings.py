"""Findings and detections: objects that cannot be built invalid, and their JSON (``findings.json``)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any

from spineone_core.anatomy import READING_ORDER, Grade, Landmark, Structure

# Every picture and every object of a result says this.
RESEARCH_USE = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class InvalidFindingError(ValueError):
    """A finding or detection breaks a rule; the message names the value and the rule."""


class Status(StrEnum):
    """How the analysis of a study ended."""

    ANALYSED = "analysed"
    NOT_ANALYSABLE = "not_analysable"


class Stage(Enum):
    """When it turned out that a study is not analysable."""

    BEFORE_ANALYSIS = "before"  # the detector did not run
    AFTER_ANALYSIS = "after"  # it ran, and its answer is not usable


class Reason(StrEnum):
    """Why a study was not analysable (coded; stable, people script against it).

    Each row is a code, the stage at which it shows, and the text that reports and pictures print.
    """

    stage: Stage
    text: str

    TWO_PATIENTS = "two_patients", Stage.BEFORE_ANALYSIS, "the images contradict each other about the patient"
    NO_IMAGES = "no_images", Stage.BEFORE_ANALYSIS, "the study holds no MR image that can be read"
    NO_SAGITTAL_T2 = "no_sagittal_t2", Stage.BEFORE_ANALYSIS, "the study holds no sagittal T2-weighted series"
    TOO_FEW_SLICES = (
        "too_few_slices",
        Stage.BEFORE_ANALYSIS,
        "the sagittal T2 series has fewer slices than the settings demand",
    )
    UNREADABLE_PIXELS = (
        "unreadable_pixels",
        Stage.BEFORE_ANALYSIS,
        "pixel data of the chosen series cannot be decoded",
    )
    INVALID_GEOMETRY = (
        "invalid_geometry",
        Stage.BEFORE_ANALYSIS,
        "the geometry of the chosen series is missing or impossible",
    )
    FIELD_OF_VIEW_TOO_LARGE = (
        "field_of_view_too_large",
        Stage.BEFORE_ANALYSIS,
        "the images of the chosen series are larger than the analysis can hold",
    )
    FIELD_OF_VIEW_TOO_SMALL = (
        "field_of_view_too_small",
        Stage.BEFORE_ANALYSIS,
        "the images of the chosen series are too small to show five lumbar levels",
    )
    TIME_LIMIT = (
        "time_limit",
        Stage.BEFORE_ANALYSIS,
        "reading the study took longer than the settings allow",
    )
    LEVELS_INCOMPLETE = "levels_incomplete", Stage.AFTER_ANALYSIS, "not all ten levels L1 to L5-S1 were found"
    LEVELS_IMPLAUSIBLE = (
        "levels_implausible",
        Stage.AFTER_ANALYSIS,
        "the points found cannot be five lumbar levels (spacing or order)",
    )
    NOT_LUMBAR = "not_lumbar", Stage.AFTER_ANALYSIS, "the images do not look like a sagittal T2 lumbar spine"
    INVALID_OUTPUT = "invalid_output", Stage.AFTER_ANALYSIS, "the detector's output was not finite"
    UNWRITABLE = (
        "unwritable",
        Stage.AFTER_ANALYSIS,
        "no DICOM object can be made of the result: an attribute of patient or study breaks its rules",
    )
    ANALYSIS_FAILED = "analysis_failed", Stage.AFTER_ANALYSIS, "the analysis ended in an error of the software"

    def __new__(cls, code: str, *stage_and_text: Any) -> Reason:
        # As one parameter, because `Reason(code)` looks a member up; a row that lacks one fails at import.
        reason = str.__new__(cls, code)
        reason._value_ = code
        reason.stage, reason.text = stage_and_text
        return reason


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
class PfirrmannGrade:
    """Grade of a disc's degeneration, 1 (none) to 5, and the calibrated probabilities of the five grades (Pfirrmann, 2001).

    Raises
    ------
    InvalidFindingError
        If the grade or a probability is out of its range, or the probabilities do not add up to 1.
    """

    grade: int
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        within = all(math.isfinite(p) and 0 <= p <= 1 for p in self.probabilities)
        if self.grade not in range(1, 6) or len(self.probabilities) != 5 or not within:
            raise InvalidFindingError(f"Pfirrmann grade {self.grade} with probabilities {self.probabilities}")
        if abs(sum(self.probabilities) - 1) > 1e-3:
            raise InvalidFindingError(f"probabilities of Pfirrmann grades add up to {sum(self.probabilities):g}")

    def to_json(self) -> dict[str, Any]:
        return {"grade": self.grade, "probabilities": [round(p, 6) for p in self.probabilities]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PfirrmannGrade:
        return cls(grade=data["grade"], probabilities=tuple(data["probabilities"]))


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
        False where the probability lies in the band in which the model calls no class.
    x, y
        Column and row in source pixels of the slice, pixel centres at integers.
    xyz_mm
        Patient coordinates, LPS, millimetres.
    localisation_confidence
        In [0, 1]; the Hough score of the chosen point (Eq. 3), clipped.
    pfirrmann
        The grade of a disc; None for vertebrae and where the model does not grade.
    signs
        Names and calibrated probabilities in [0, 1] of signs beside the class, as ``narrowing``; empty where the model says none.

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
    pfirrmann: PfirrmannGrade | None = None
    signs: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        Landmark(self.structure, self.level)
        for name, probability in self.signs:
            if not (math.isfinite(probability) and 0.0 <= probability <= 1.0):
                raise InvalidFindingError(f"{self.level}: probability {probability!r} of {name} is outside [0, 1]")
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
        """Structure and level together."""
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
            "pfirrmann": None if self.pfirrmann is None else self.pfirrmann.to_json(),
            "signs": {name: round(probability, 6) for name, probability in self.signs},
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
            pfirrmann=PfirrmannGrade.from_json(data["pfirrmann"]) if data.get("pfirrmann") else None,
            signs=tuple(data.get("signs", {}).items()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """The outcome for one study.

    ``analysed`` carries exactly the ten findings of ``anatomy.READING_ORDER``, in that order, and the slice they lie on
    (``frame_number`` counts from 1 and is None for single-frame images); ``not_analysable`` carries a reason and none.
    ``series_uid`` and ``sop_instance_uid`` may be empty only where no series could be chosen. ``series_uids`` are those of all
    slices of the stack (one stack may lie under several); that of the analysed slice alone where not given. ``ood_score``, in
    [0, 1], says how little the pictures look like what the model was made for; also of a refusal, where it was measured before.
    ``definitions`` says of each kind of structure when it counts as degenerative; empty of a refusal, and in findings of earlier
    versions.
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
    series_uids: tuple[str, ...] = field(default=())
    definitions: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.series_uids and self.series_uid:
            object.__setattr__(self, "series_uids", (self.series_uid,))
        if self.series_uid and self.series_uid not in self.series_uids:
            raise InvalidFindingError(f"the series of the slice, {self.series_uid!r}, is none of the stack's")
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
        series_uids: Sequence[str] = (),
        warnings: Sequence[str] = (),
        ood_score: float | None = None,
    ) -> Detection:
        """A study that is not analysable; without a detail the reason's own text stands for it."""
        return cls(
            study_uid=study_uid,
            series_uid=series_uid,
            series_uids=tuple(series_uids),
            sop_instance_uid="",
            model=model,
            status=Status.NOT_ANALYSABLE,
            reason=reason,
            reason_detail=detail or reason.text,
            ood_score=ood_score,
            warnings=tuple(warnings),
        )

    @property
    def analysed(self) -> bool:
        """Whether there are findings."""
        return self.status is Status.ANALYSED

    def to_json(self) -> dict[str, Any]:
        """The object of ``findings.json``; keys may be added in later versions, never changed."""
        return {
            "study_uid": self.study_uid,
            "series_uid": self.series_uid,
            "series_uids": list(self.series_uids),
            "sop_instance_uid": self.sop_instance_uid,
            "frame_number": self.frame_number,
            "model": self.model.to_json(),
            "status": self.status.value,
            "reason": self.reason.value if self.reason else None,
            "reason_detail": self.reason_detail,
            "findings": [f.to_json() for f in self.findings],
            "ood_score": None if self.ood_score is None else round(self.ood_score, 6),
            "warnings": list(self.warnings),
            "definitions": dict(self.definitions),
        }

    def dumps(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_json(), ensure_ascii=False)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Detection:
        return cls(
            study_uid=data["study_uid"],
            series_uid=data["series_uid"],
            series_uids=tuple(data.get("series_uids", ())),
            sop_instance_uid=data["sop_instance_uid"],
            model=ModelIdentity(**data["model"]),
            status=Status(data["status"]),
            reason=Reason(data["reason"]) if data["reason"] else None,
            reason_detail=data.get("reason_detail", ""),
            findings=tuple(Finding.from_json(f) for f in data["findings"]),
            frame_number=data.get("frame_number"),
            ood_score=data.get("ood_score"),
            warnings=tuple(data["warnings"]),
            definitions=tuple(data.get("definitions", {}).items()),
        )


class NotAnalysable(Exception):  # noqa: N818 (an outcome that a report says, not an error)
    """A study or series cannot be analysed. ``reason`` is coded; the message names the value and the rule."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
