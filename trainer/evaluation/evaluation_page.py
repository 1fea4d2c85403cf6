"""The sections of an evaluation's HTML page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

from spineone_core.anatomy import Structure
from trainer.curation.html import Section, as_source
from trainer.evaluation import metrics
from trainer.evaluation.calibration import labelled_probabilities
from trainer.evaluation.curves import confidences_and_misses, ordering, reliability, risk_coverage
from trainer.evaluation.outcomes import Outcome
from trainer.evaluation.plots import NoPlotsError, pck_plot, reliability_diagram, risk_coverage_plot

Figures = dict[str, float | int]


def rows_of(groups: dict[str, Figures] | dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    """A row for each figure, a cell for each group."""
    names = list(dict.fromkeys(name for figures in groups.values() for name in figures))
    return [
        (name, *(text_of(figures[name]) if name in figures else "" for figures in groups.values())) for name in names
    ]


def figures_section(
    figures: dict[str, Figures],
    intervals: dict[str, dict[str, tuple[float, float]]],
    dropped: dict[str, dict[str, int]],
) -> Section:
    """All figures, a column for each group; intervals stand beside the figures that have one, with the draws left out."""
    rows = []
    for name, *cells in rows_of(figures):
        found = [intervals.get(group, {}).get(name) for group in figures]
        left_out = [dropped.get(group, {}).get(name, 0) for group in figures]
        rows.append((name, *map(_with_interval, cells, found, left_out)))
    lines = ["In brackets: 95 % bootstrap interval, patients drawn with replacement."] if intervals else []
    # If all exams are right, so is every bootstrap sample; only the exact interval shows how little that proves.
    lines += [
        f"{group}: all {found['exams']} exams right; the exact 95 % interval of that share begins at "
        f"{binomtest(int(found['exams']), int(found['exams'])).proportion_ci().low:.2f}."
        for group, found in figures.items()
        if found.get("all_levels_right") == 1
    ]
    return Section(heading="Figures", lines=lines, columns=("", *figures), rows=rows)


def _with_interval(cell: str, interval: tuple[float | None, float | None] | None, left_out: int) -> str:
    if interval is None:
        return cell
    draws = f", {left_out} draws without a class left out" if left_out else ""
    return f"{cell} ({text_of(interval[0])} to {text_of(interval[1])}{draws})"


def table(heading: str, groups: dict[str, Figures], keys: Sequence[str] = ()) -> Section:
    """A row for each group, a column for each of ``keys``, all figures where none are named."""
    names = list(keys) or list(next(iter(groups.values())))
    rows = [(name, *(text_of(figures.get(key)) for key in names)) for name, figures in groups.items()]
    return Section(heading=heading, columns=("", *names), rows=rows)


def refusals_section(outcomes: Sequence[Outcome]) -> Section:
    """How many exams were refused, by reason."""
    reasons = Counter(outcome.refusal for outcome in outcomes if outcome.predicted is None)
    rows = [(reason, str(count)) for reason, count in reasons.most_common()]
    return Section(heading=f"Refused ({reasons.total()})", columns=("reason", "exams"), rows=rows)


def confusion_section(outcomes: Sequence[Outcome], structure: Structure) -> Section:
    """What was said of the keypoints of each true class."""
    table = metrics.confusion(outcomes, structure)
    rows = [(f"truly {grade}", *map(str, counts.values())) for grade, counts in table.items()]
    columns = ("", *(f"said {word}" if word != "missed" else word for word in next(iter(table.values()))))
    return Section(heading=f"Confusion: {structure.value}", columns=columns, rows=rows)


def curves_section(outcomes: Sequence[Outcome]) -> Section:
    """PCK, reliability and risk-coverage curves, or how to get matplotlib where it is missing."""
    structures = list(Structure)
    pairs = {s.value: confidences_and_misses(outcomes, s) for s in structures}
    order = ", ".join(f"{name} {text_of(ordering(*pair))}" for name, pair in pairs.items())
    lines = [f"Chance that a hit is located with more confidence than a miss: {order} (nan: no misses, or no hits)."]
    try:
        plots = [
            pck_plot({s.value: metrics.pck_curve(outcomes, structure=s) for s in structures}),
            reliability_diagram({s.value: reliability(*labelled_probabilities(outcomes, s)) for s in structures}),
            risk_coverage_plot({name: risk_coverage(*pair) for name, pair in pairs.items()}),
        ]
    except NoPlotsError as error:
        return Section(heading="Curves", lines=[*lines, str(error)])
    return Section(
        heading="Curves: PCK by distance, reliability, risk and coverage",
        lines=lines,
        pictures=list(map(as_source, plots)),
    )


def text_of(value: float | int | None) -> str:
    """A figure as text for people."""
    if value is None or not np.isfinite(value):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
