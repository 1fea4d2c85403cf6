"""Everything that a cross-validation of the grading networks shows of one structure, as plain JSON values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from spineone_core.anatomy import Structure
from spineone_core.arrays import FloatArray
from spineone_core.detection.calibration import Calibration
from spineone_core.detection.grading import PFIRRMANN, calibration_key
from spineone_core.network.grading import CLASS_FROM, GradingConfig
from trainer.evaluation.calibration import expected_calibration_error
from trainer.evaluation.grades import (
    BANDS,
    Judged,
    auc,
    calibration_from,
    class_figures,
    cross_calibrated,
    cross_calibrated_outputs,
    figures_of,
    intervals,
    pfirrmann_calibration,
    pfirrmann_figures,
    sign_calibration,
)
from trainer.evaluation.located import Grades, LocatedExam, judged_of

# The middle of a disc, over whose brightness the baseline averages.
CENTRE_MM = 5.0
# What a sign must reach to be reported.
SIGN_AUC, SIGN_LEVELS = 0.8, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidated:
    """The exams graded out of their fold: logits by epoch and exam, and each patient's fold.

    ``discs`` are the logits of the discs by exam, from the same folds, where vertebrae may be joined with these.
    """

    located: Sequence[LocatedExam]
    by_epoch: Mapping[int, Mapping[str, Grades]]
    config: GradingConfig
    folds: Mapping[str, int]
    discs: Mapping[str, Grades] | None = None

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways to a class that there are."""
        return tuple(way for way in CLASS_FROM if way != "joined" or self.discs is not None)

    def judged(self, epoch: int, class_from: str) -> Judged:
        """The levels as one way of coming to a class has them, before calibration."""
        config = replace(self.config, class_from=class_from)
        return judged_of(self.located, self.by_epoch[epoch], config, self.folds, self.discs)


def structure_report(found: CrossValidated, *, error_rate: float, band: str, samples: int) -> dict[str, Any]:
    """Figures of the last epoch and of the config's way to a class, with intervals; log loss of all ways and epochs.

    Parameters
    ----------
    error_rate, band
        As in `trainer.evaluation.grades.calibration_from`.
    samples
        Of the bootstrap; 0 for no intervals.
    """
    last, config = max(found.by_epoch), found.config

    def calibrated(epoch: int, way: str, with_band: str = band) -> Judged:
        return cross_calibrated(found.judged(epoch, way), error_rate=error_rate, band=with_band)

    judged = cross_calibrated_outputs(calibrated(last, config.class_from))
    measure = _measure(config.structure)
    report: dict[str, Any] = {
        "patients": len(set(judged.patients.tolist())),
        "figures": measure(judged),
        "log_loss_by_epoch": {
            str(epoch): {way: class_figures(calibrated(epoch, way))["log_loss"] for way in found.ways}
            for epoch in sorted(found.by_epoch)
        },
        "by_class_from": {way: figures_of(calibrated(last, way)) for way in found.ways},
        "by_band": {name: class_figures(calibrated(last, config.class_from, name)) for name in BANDS},
        "signs": _signs(judged, config.signs),
        "calibration": {
            key: asdict(one) for key, one in calibrations_of(found, error_rate=error_rate, band=band).items()
        },
    }
    if samples:
        report["intervals"] = intervals(judged, _headlines, samples=samples)
    if config.structure is Structure.DISC:
        report["confusion"] = _confusion(judged)
        report["without_bulges"] = figures_of(judged.at(~((judged.labels > 0) & (judged.pfirrmann <= 2))))
        report["brightness"] = figures_of(
            cross_calibrated(brightness_judged(found, judged), error_rate=error_rate, band=band)
        )
    return report


def calibrations_of(found: CrossValidated, *, error_rate: float, band: str) -> dict[str, Calibration]:
    """What a package is calibrated with, from all out-of-fold predictions: class, Pfirrmann grade and the signs that passed.

    A sign passes with an AUC of ``SIGN_AUC`` and ``SIGN_LEVELS`` levels with it and without it. Keys as in
    `spineone_core.detection.grading.calibration_key`.
    """
    structure = found.config.structure
    judged = found.judged(max(found.by_epoch), found.config.class_from)
    result = {structure.value: calibration_from(judged, error_rate=error_rate, band=band)}
    for k, scaling in enumerate(pfirrmann_calibration(judged), start=1):
        result[calibration_key(structure, f"{PFIRRMANN}.{k}")] = scaling
    for place, (name, sign) in enumerate(_signs(judged, found.config.signs).items()):
        fewer = sign["known"] * min(sign["share"], 1 - sign["share"])
        if sign["auc"] >= SIGN_AUC and fewer >= SIGN_LEVELS:
            result[calibration_key(structure, name)] = sign_calibration(judged, place)
    return result


def _headlines(judged: Judged) -> dict[str, float]:
    """The figures that stand with an interval: all that do not need a random draw of their own."""
    grades = pfirrmann_figures(judged) if np.isfinite(judged.pfirrmann).any() else {}
    return class_figures(judged) | grades


def _measure(structure: Structure) -> Callable[[Judged], dict[str, float]]:
    if structure is Structure.DISC:
        return lambda judged: figures_of(judged) | pfirrmann_figures(judged)
    return figures_of


def _signs(judged: Judged, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """How often each sign is there, and how well it is told, where it is known and the level was found."""
    result = {}
    for place, name in enumerate(names):
        known = np.isfinite(judged.signs[:, place]) & judged.found.astype(bool)
        truth = judged.signs[known, place]
        result[name] = {
            "known": float(len(truth)),
            "share": float(truth.mean()) if len(truth) else float("nan"),
            "auc": auc(judged.said_signs[known, place], truth),
            "ece": expected_calibration_error(judged.said_signs[known, place], truth),
        }
    return result


def _confusion(judged: Judged) -> list[list[int]]:
    """(5, 5) counts: true Pfirrmann grade by row, said one by column."""
    known = judged.at(np.isfinite(judged.pfirrmann) & judged.found.astype(bool))
    table = np.zeros((5, 5), dtype=int)
    np.add.at(table, (known.pfirrmann.astype(int) - 1, known.said_pfirrmann.astype(int) - 1), 1)
    counts: list[list[int]] = table.tolist()
    return counts


def brightness_judged(found: CrossValidated, judged: Judged) -> Judged:
    """The baseline: how dark the middle of each disc is among the crops of its spine, scaled like any probability."""
    dark = np.concatenate([_darkness(one, found.config) for one in found.located])
    return replace(judged, raw=1 / (1 + np.exp(-dark)))


def _darkness(one: LocatedExam, config: GradingConfig) -> FloatArray:
    """(5,) minus the mean z-score of the pixels within ``CENTRE_MM`` of the middle of each crop; 0 where refused."""
    if one.points is None:
        return np.zeros(5)
    crops = one.crops(config).mean(dim=0).double().numpy()
    steps = (np.arange(config.crop_px) - (config.crop_px - 1) / 2) * config.crop_mm / config.crop_px
    inside = np.hypot(*np.meshgrid(steps, steps)) <= CENTRE_MM
    result: FloatArray = -crops[:, inside].mean(axis=1)
    return result
