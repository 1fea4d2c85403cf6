"""All figures of a package as one Markdown document: targets beside results, then figures by data set, level and scanner."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spineone_core.anatomy import Structure
from trainer.evaluation.evaluation_page import text_of
from trainer.evaluation.refusals import GOOD, Tally
from trainer.evaluation.targets import TARGETS, Measured, exact_interval

# The figures of the table by group, and what a reader calls them.
_ROWS = {
    "exams": "exams",
    "refused": "refused",
    "pck6": "PCK-6 mm (level-free)",
    "pck6_level_strict": "PCK-6 mm, level-strict",
    "all_levels_right": "exams with all ten levels right",
    "mean_error_mm": "mean error, mm",
    "median_error_mm": "median error, mm",
    **{
        f"{structure}_{name}": f"{structure} {words}"
        for structure in Structure
        for name, words in {
            "macro_f1": "macro F1 (every true keypoint counts)",
            "macro_f1_paper": "macro F1, the paper's counts",
            "ece": "expected calibration error",
            "undecided": "keypoints undecided",
            "normal_called_other": "normal keypoints called degenerative",
            "degenerative_called_other": "degenerative keypoints called normal",
        }.items()
    },
}
_LEVEL_ROWS = {
    "keypoints": "keypoints",
    "pck6_level_strict": "within 6 mm at its level",
    "median_error_mm": "median error, mm",
    "class_known": "class known",
    "class_right": "class right",
    "undecided": "undecided",
}
_SCANNER_ROWS = {
    "exams": "exams",
    "all_levels_right": "all levels right",
    "mean_error_mm": "mean error, mm",
    "disc_macro_f1": "disc macro F1",
}
# The figures that are shares, and the figure that says of how many. An interval stands beside them.
_SHARES = {"pck6_level_strict": "keypoints", "class_right": "class_known", "all_levels_right": "exams"}


def render_results(measured: Measured) -> str:
    """Markdown with the targets, figures by group, by level and by scanner, and refusals."""
    identity = measured.package.identity
    sections = [
        f"# Results: {identity.name} {identity.version}\n",
        f"Digest `{identity.digest}`, part: {measured.part}. Written by `spineone-train results`.\n",
        f"## Targets ({measured.main})\n",
        _table(("target", "wanted", "seen", "verdict", "95 % interval", "remark"), [t.row(measured) for t in TARGETS]),
        "Intervals (95 %) of shares of exams, inputs and keypoints are exact, the others bootstrap ones, patients drawn with "
        "replacement.\n",
        "## By data set\n",
        _transposed(measured.content["figures"], _ROWS),
        "## By level\n",
        _by_row("level", measured.content["levels"], _LEVEL_ROWS),
        "## By scanner\n",
        _by_row("scanner", measured.content["scanners"], _SCANNER_ROWS),
        "## Refusals\n",
        "Put to the detector past series selection; reasons as in `findings.json`.\n",
        _table(("input", "number", "refused", "reasons", "analysed"), list(_refusal_rows(measured.tallies))),
    ]
    return "\n".join(sections)


def _refusal_rows(tallies: Mapping[str, Tally]) -> Iterator[tuple[str, ...]]:
    for kind, tally in tallies.items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in tally.reasons.most_common())
        analysed = "" if kind.startswith(GOOD) else ", ".join(tally.analysed)
        yield kind, str(tally.count), str(tally.reasons.total()), reasons, analysed


def _transposed(groups: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> str:
    rows = [(words, *(text_of(group.get(name)) for group in groups.values())) for name, words in names.items()]
    return _table(("", *groups), rows)


def _by_row(head: str, groups: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> str:
    rows = [(label, *(_cell(group, name) for name in names)) for label, group in groups.items()]
    return _table((head, *names.values()), rows)


def _cell(group: Mapping[str, Any], name: str) -> str:
    value, of_all = group.get(name), group.get(_SHARES.get(name, ""), 0)
    is_known = value is not None and math.isfinite(value)
    interval = exact_interval(round(value * of_all), of_all) if is_known else None
    return text_of(value) + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
