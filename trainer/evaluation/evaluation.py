"""Everything that is measured of a model package on annotated exams, which are taken in one by one."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.detection.model_package import Manifest
from spineone_core.strict_json import without_nan
from trainer.curation.html import Section, as_source, render
from trainer.curation.thumbnails import LEGEND, contact_sheet, png_of, thumbnail
from trainer.datasets.exam import Exam
from trainer.datasets.scanner import scanner_of
from trainer.evaluation import metrics
from trainer.evaluation.bootstrap import Interval, bootstrap_interval
from trainer.evaluation.calibration import (
    calibration_error_by_chance,
    expected_calibration_error,
    labelled_probabilities,
)
from trainer.evaluation.evaluation_page import (
    Figures,
    confusion_section,
    curves_section,
    figures_section,
    refusals_section,
    rows_of,
    table,
)
from trainer.evaluation.metrics import HIT_MM
from trainer.evaluation.outcomes import Outcome

PHANTOM, ALL_REAL = "phantom", "all real"
WORST = 12

# The figures that get a bootstrap interval.
HEADLINES: dict[str, Callable[[Sequence[Outcome]], float]] = {
    "pck6": metrics.pck,
    "pck6_level_strict": lambda outcomes: float((metrics.errors_mm(outcomes) <= HIT_MM).mean()),
    "all_levels_right": metrics.all_levels_right,
    "disc_macro_f1": lambda outcomes: metrics.macro_f1(outcomes, Structure.DISC),
    "vertebra_macro_f1": lambda outcomes: metrics.macro_f1(outcomes, Structure.VERTEBRA),
}
# Means over classes: a draw without one of them is a mean of something else.
_CLASSES: dict[str, Callable[[Sequence[Outcome]], int]] = {
    "disc_macro_f1": lambda outcomes: len(metrics.occurring(outcomes, Structure.DISC)),
    "vertebra_macro_f1": lambda outcomes: len(metrics.occurring(outcomes, Structure.VERTEBRA)),
}


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """An outcome, what it is grouped by, and whether the exam's points are ``centroids``."""

    outcome: Outcome
    subset: str
    manufacturer: str
    field_strength: str
    centroids: bool


@dataclass(slots=True)
class Evaluation:
    """The outcomes of a package on exams of any data sets."""

    manifest: Manifest
    title: str
    cases: list[Case] = field(default_factory=list)
    _worst: list[tuple[float, int, Image.Image]] = field(default_factory=list)

    def add(self, exam: Exam, outcome: Outcome) -> None:
        """Take in an exam; its picture is kept only if it is one of the worst."""
        scanner, _, field_strength = scanner_of(exam).rpartition(", ")
        self.cases.append(Case(outcome, exam.subset, scanner, field_strength, exam.centroids))
        badness = float(metrics.errors_mm([outcome]).max())
        if exam.centroids and badness > HIT_MM and (len(self._worst) < WORST or badness > self._worst[0][0]):
            entry = min(badness, 1e6), -len(self.cases), thumbnail(exam, *_caption_and_points(exam, outcome, badness))
            (heapq.heappush if len(self._worst) < WORST else heapq.heapreplace)(self._worst, entry)

    # ------------------------------------------------------------ groups and figures

    def groups(self) -> dict[str, list[Case]]:
        """The cases by subset; where real exams are of several subsets, also all real exams together."""
        groups: dict[str, list[Case]] = {}
        for case in self.cases:
            groups.setdefault(case.subset, []).append(case)
        real = [case for case in self.cases if case.subset != PHANTOM and case.centroids]
        if len({case.subset for case in real}) > 1:
            groups[ALL_REAL] = real
        return groups

    def main_cases(self) -> list[Case]:
        """The cases that curves and tables by level are made from: real exams with centroids, or phantoms if there are none."""
        known = [case for case in self.cases if case.centroids]
        return [case for case in known if case.subset != PHANTOM] or known

    def figures(self) -> dict[str, Figures]:
        """All figures of every group."""
        return {name: self.figures_of(cases) for name, cases in self.groups().items()}

    def figures_of(self, cases: Sequence[Case]) -> Figures:
        """What `metrics.summary` gives, calibration and the undecided band; only levels where the points are no centroids."""
        outcomes = [case.outcome for case in cases]
        levels: Figures = {"disc_levels_by_nearest": metrics.levels_by_nearest(outcomes, Structure.DISC)}
        if not all(case.centroids for case in cases):
            return {"exams": len(cases), "refused": sum(o.predicted is None for o in outcomes), **levels}
        figures = metrics.summary(outcomes) | levels
        for structure in Structure:
            probabilities, labels = labelled_probabilities(outcomes, structure)
            figures[f"{structure}_ece"] = expected_calibration_error(probabilities, labels)
            chance, upper = calibration_error_by_chance(probabilities)
            figures[f"{structure}_ece_by_chance"], figures[f"{structure}_ece_by_chance_95"] = chance, upper
            decided = np.array([self.manifest.decides(structure, p) for p in probabilities.tolist()], dtype=bool)
            figures[f"{structure}_undecided"] = float(1 - decided.mean()) if len(decided) else float("nan")
            for grade in Grade:
                figures[f"{structure}_{grade}_called_other"] = _called_other(probabilities, labels, decided, grade)
        return figures

    def intervals(self, samples: int) -> dict[str, dict[str, Interval]]:
        """95 % bootstrap intervals by patient of the headline figures, for every group with centroids."""
        return {
            name: {
                figure: bootstrap_interval(
                    [c.outcome for c in cases], compute, samples=samples, classes=_CLASSES.get(figure, lambda drawn: 0)
                )
                for figure, compute in HEADLINES.items()
            }
            for name, cases in self.groups().items()
            if all(case.centroids for case in cases)
        }

    def by_level(self) -> dict[str, Figures]:
        """For each level: annotated keypoints, level-strict PCK-6, errors, classes right and undecided."""
        outcomes = [case.outcome for case in self.main_cases()]
        return {landmark.level: self._level(outcomes, row) for row, landmark in enumerate(READING_ORDER)}

    def _level(self, outcomes: Sequence[Outcome], row: int) -> Figures:
        landmark = READING_ORDER[row]
        errors = np.array(
            [e for o in outcomes for e in [metrics.errors_by_level(o).get(landmark.level)] if e is not None]
        )
        finite = errors[np.isfinite(errors)]
        said = [
            (float(o.probabilities[row]), o.grades[row])
            for o in outcomes
            if o.probabilities is not None and o.grades[row] is not None
        ]
        right = [(p >= 0.5) is (grade is Grade.DEGENERATIVE) for p, grade in said]
        undecided = [not self.manifest.decides(landmark.structure, p) for p, _ in said]
        return {
            "keypoints": len(errors),
            "pck6_level_strict": _mean(errors <= HIT_MM),
            "mean_error_mm": _mean(finite),
            "median_error_mm": float(np.median(finite)) if len(finite) else float("nan"),
            "class_known": len(said),
            "class_right": _mean(right),
            "undecided": _mean(undecided),
        }

    def by_scanner(self) -> dict[str, list[Case]]:
        """The main cases by manufacturer and by field strength."""
        groups: dict[str, list[Case]] = {}
        for case in self.main_cases():
            for name in (case.manufacturer, case.field_strength):
                groups.setdefault(name, []).append(case)
        return dict(sorted(groups.items()))

    # ------------------------------------------------------------ reports

    def to_json(self, samples: int) -> dict[str, Any]:
        """Everything except pictures."""
        found = self.intervals(samples) if samples else {}
        content = {
            "figures": self.figures(),
            "intervals": {group: {name: i[:2] for name, i in of.items()} for group, of in found.items()},
            "dropped_draws": {group: {name: i.dropped for name, i in of.items()} for group, of in found.items()},
            "levels": self.by_level() if self.main_cases() else {},
            "scanners": {name: self.figures_of(cases) for name, cases in self.by_scanner().items()},
        }
        plain: dict[str, Any] = without_nan(content)
        return plain

    def write(self, out: Path, samples: int, introduction: Sequence[str] = ()) -> None:
        """Write ``evaluation.html``, which needs no other file, and ``evaluation.json``."""
        out.mkdir(parents=True, exist_ok=True)
        content = self.to_json(samples)
        (out / "evaluation.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (out / "evaluation.html").write_text(render(self.title, list(self._sections(content)), introduction), "utf-8")

    def _sections(self, content: dict[str, Any]) -> Iterator[Section]:
        yield figures_section(content["figures"], content["intervals"], content["dropped_draws"])
        if not self.main_cases():
            return
        outcomes = [case.outcome for case in self.main_cases()]
        yield table("By level", content["levels"])
        keys = (
            "exams",
            "refused",
            "pck6",
            "pck6_level_strict",
            "all_levels_right",
            "disc_macro_f1",
            "vertebra_macro_f1",
        )
        yield table("By manufacturer and field strength", content["scanners"], keys)
        for structure in Structure:
            yield confusion_section(outcomes, structure)
        yield Section(
            heading="Every definition of precision, recall and F1",
            columns=("", *(structure.value for structure in Structure)),
            rows=rows_of({s.value: metrics.definitions(outcomes, s) for s in Structure}),
        )
        yield curves_section(outcomes)
        yield refusals_section(outcomes)
        yield self._worst_section()

    def _worst_section(self) -> Section:
        pictures = [picture for _, _, picture in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]
        if not pictures:
            return Section(heading="Worst cases", lines=["No keypoint of any exam is farther than 6 mm off."])
        return Section(
            heading=f"Worst cases ({len(pictures)} exams)",
            lines=[f"{LEGEND} Crosses are the model's points."],
            pictures=[as_source(png_of(contact_sheet(pictures, columns=4)))],
        )


def _called_other(probabilities: Any, labels: Any, decided: Any, grade: Grade) -> float:
    """The share of a class's keypoints for which the other class was called; an undecided one is not called."""
    mine = labels > 0 if grade is Grade.DEGENERATIVE else labels <= 0
    said_degenerative = probabilities >= 0.5
    wrong = decided & (said_degenerative != (grade is Grade.DEGENERATIVE))
    return _mean(wrong[mine]) if len(labels) else float("nan")


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _caption_and_points(exam: Exam, outcome: Outcome, badness: float) -> tuple[str, Any]:
    if outcome.predicted is None:
        return f"{exam.exam_id[-26:]}\nrefused: {outcome.refusal}", None
    far = [level for level, error in metrics.errors_by_level(outcome).items() if error > HIT_MM]
    between_rows, between_columns = exam.volume.pixel_spacing
    points = outcome.predicted / np.array([between_columns, between_rows])
    return f"{exam.exam_id[-26:]}\n{len(far)} off, most {badness:.0f} mm", points
