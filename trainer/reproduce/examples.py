"""Example pictures, each with a table of truth and result (Fig. 9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from trainer.datasets.exam import Exam
from trainer.evaluation import metrics
from trainer.evaluation.outcomes import Outcome
from trainer.reproduce import plots

AT_RANDOM = 3
COLOURS = {Structure.DISC: "#36d13b", Structure.VERTEBRA: "#4aa3ff"}


def example_pictures(exams: Sequence[Exam], outcomes: Sequence[Outcome], seed: int, title: str) -> dict[str, bytes]:
    """PNG pictures by name: random exams, and the one with the largest mean error (a refusal is the largest)."""
    errors = [float(np.mean(metrics.errors_mm([outcome]))) for outcome in outcomes]
    worst = int(np.argmax(errors))
    others = [i for i in range(len(exams)) if i != worst]
    drawn = np.random.default_rng([seed, 9]).permutation(others)[:AT_RANDOM]
    names = {f"example{n + 1}": int(i) for n, i in enumerate(drawn)} | {"worst": worst}
    return {name: _picture(exams[i], outcomes[i], title) for name, i in names.items()}


def _picture(exam: Exam, outcome: Outcome, title: str) -> bytes:
    figure, axes = plots.new_figure(2, 1, (10.5, 5.2))
    image, table = axes[0]
    plane = exam.volume.voxels[exam.slice_index]
    image.imshow(plane, cmap="gray", vmax=float(np.percentile(plane, 99.5)))
    between_rows, between_columns = exam.volume.pixel_spacing
    pixels = np.array([between_columns, between_rows])
    for row, landmark in enumerate(READING_ORDER):
        true = outcome.truth[row] / pixels
        image.plot(*true, "o", ms=5, mfc="none", color=COLOURS[landmark.structure])
        if outcome.predicted is not None:
            image.plot(*(outcome.predicted[row] / pixels), "x", ms=5, color="red")
    image.set_axis_off()
    table.set_axis_off()
    drawn = table.table(
        cellText=[_row(outcome, row, pixels) for row in range(len(READING_ORDER))],
        colLabels=["level", "truth (column, row)", "class", "ours (column, row)", "class", "error"],
        colWidths=[0.12, 0.24, 0.1, 0.24, 0.1, 0.16],
        loc="center",
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7)
    _mark_wrong(drawn, outcome)
    return plots.png(figure, title)


def _row(outcome: Outcome, row: int, pixels: Any) -> list[str]:
    grade = outcome.grades[row]
    truth = [_place(outcome.truth[row] / pixels), _letter(grade)]
    if outcome.predicted is None:
        return [READING_ORDER[row].level, *truth, "refused", "", ""]
    if np.isnan(outcome.predicted[row]).any():
        return [READING_ORDER[row].level, *truth, "not found", "", ""]
    said = metrics.said_class(outcome, row)
    error = float(np.linalg.norm(outcome.predicted[row] - outcome.truth[row]))
    return [READING_ORDER[row].level, *truth, _place(outcome.predicted[row] / pixels), _letter(said), f"{error:.1f} mm"]


def _mark_wrong(table: Any, outcome: Outcome) -> None:
    """Turn text red where our point is off by more than 6 mm or has the wrong class."""
    for row, grade in enumerate(outcome.grades):
        if outcome.predicted is None or np.isnan([outcome.truth[row], outcome.predicted[row]]).any():
            continue
        far = np.linalg.norm(outcome.predicted[row] - outcome.truth[row]) > metrics.HIT_MM
        wrong = grade is not None and metrics.said_class(outcome, row) is not grade
        for column, bad in ((3, far), (4, wrong), (5, far)):
            if bad:
                table[row + 1, column].get_text().set_color("red")


def _place(point: Any) -> str:
    return "" if np.isnan(point).any() else f"{point[0]:.0f}, {point[1]:.0f}"


def _letter(grade: Grade | None) -> str:
    return "?" if grade is None else "N" if grade is Grade.NORMAL else "D"
