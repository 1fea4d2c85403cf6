"""Everything that a model card says in figures, beside what was aimed at, as one Markdown document."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest

from spineone_core.anatomy import Structure
from spineone_core.detection.model_package import ModelPackage
from trainer.evaluation.evaluation import ALL_REAL
from trainer.evaluation.latency import Latency
from trainer.evaluation.refusals import Tally
from trainer.evaluation.report import text_of

# Kinds of the refusal trials that are good exams.
GOOD = "good "
_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What was measured of a package.

    ``content`` is `Evaluation.to_json`'s; ``main`` names the group of it that the targets are about; ``size`` in bytes.
    """

    package: ModelPackage
    part: str
    content: Mapping[str, Any]
    tallies: Mapping[str, Tally]
    latency: Latency
    device: str
    size: int

    @property
    def main(self) -> str:
        """All real exams; the first group where there is only one."""
        groups = self.content["figures"]
        return ALL_REAL if ALL_REAL in groups else next(iter(groups))

    @property
    def figures(self) -> Mapping[str, Any]:
        figures: Mapping[str, Any] = self.content["figures"][self.main]
        return figures

    @property
    def false_reports(self) -> tuple[int, int]:
        """How many inputs that must be refused were analysed, and of how many."""
        foreign = [t for kind, t in self.tallies.items() if not kind.startswith(GOOD)]
        return sum(len(t.analysed) for t in foreign), sum(t.count for t in foreign)

    @property
    def refused_exams(self) -> tuple[int, int]:
        """How many good exams were refused, and of how many."""
        good = [t for kind, t in self.tallies.items() if kind.startswith(GOOD)]
        return sum(t.reasons.total() for t in good), sum(t.count for t in good)


@dataclass(frozen=True, slots=True)
class Target:
    """Something aimed at: ``value`` of the results (None where it was not measured) is to be at least or at most ``limit``."""

    what: str
    limit: float
    at_least: bool
    value: Callable[[Results], float | None]
    unit: str = ""
    interval: Callable[[Results], tuple[float, float] | None] = lambda results: None
    note: Callable[[Results], str] = lambda results: ""

    def row(self, results: Results) -> tuple[str, ...]:
        """What, wanted, seen, verdict, 95 % interval, remark."""
        value = self.value(results)
        wanted = f"{'at least' if self.at_least else 'at most'} {self.limit:g}{self.unit}"
        if value is None or value != value:
            return self.what, wanted, "-", "not measured", "", ""
        holds = value >= self.limit if self.at_least else value <= self.limit
        low_high = self.interval(results)
        between = f"{low_high[0]:.3f} to {low_high[1]:.3f}" if low_high else ""
        return (
            self.what,
            wanted,
            f"{value:.3f}{self.unit}",
            "held" if holds else "**missed**",
            between,
            self.note(results),
        )


def _figure(name: str) -> Callable[[Results], float | None]:
    return lambda results: results.figures.get(name)


def _bootstrap(name: str) -> Callable[[Results], tuple[float, float] | None]:
    return lambda results: results.content["intervals"].get(results.main, {}).get(name)


def _right_exams(results: Results) -> tuple[int, int]:
    exams = int(results.figures["exams"])
    return round(results.figures["all_levels_right"] * exams), exams


def _share(what: str, limit: float, at_least: bool, counts: Callable[[Results], tuple[int, int]]) -> Target:
    """A target about a share; ``counts`` gives how many, and of how many."""

    def value(results: Results) -> float | None:
        some, of_all = counts(results)
        return some / of_all if of_all else None

    return Target(
        what,
        limit,
        at_least,
        value,
        interval=lambda results: _exact(*counts(results)),
        note=lambda r: "{} of {}".format(*counts(r)),
    )


def _exact(some: int, of_all: int) -> tuple[float, float] | None:
    """The exact (Clopper-Pearson) 95 % interval of a share: also of none or all it says how little a few prove."""
    if not of_all:
        return None
    found = binomtest(some, of_all).proportion_ci()
    return float(found.low), float(found.high)


def _calibration_note(results: Results) -> str:
    mean, most = (results.figures[f"disc_ece_by_chance{end}"] for end in ("", "_95"))
    return f"perfectly calibrated, so many discs would show {mean:.3f} on average, in one case of twenty more than {most:.3f}"


# The project's own targets for the model that it ships.
TARGETS: tuple[Target, ...] = (
    Target("PCK-6 mm", 0.97, True, _figure("pck6"), interval=_bootstrap("pck6")),
    _share("exams with all ten levels right, level-strict", 0.97, True, _right_exams),
    Target(
        "mean error",
        2,
        False,
        _figure("mean_error_mm"),
        unit=" mm",
        note=lambda r: f"median {r.figures['median_error_mm']:.2f} mm",
    ),
    Target("disc macro F1", 0.85, True, _figure("disc_macro_f1"), interval=_bootstrap("disc_macro_f1")),
    Target("disc expected calibration error", 0.05, False, _figure("disc_ece"), note=_calibration_note),
    _share("false reports on what must be refused", 0.01, False, lambda r: r.false_reports),
    _share("good exams refused", 0.03, False, lambda r: r.refused_exams),
    Target(
        "time an exam, DICOM files to findings",
        1,
        False,
        lambda r: statistics.median(r.latency.study),
        unit=" s",
        note=lambda r: f"median of {len(r.latency.study)} runs on {r.device}",
    ),
    Target("size", 15, False, lambda r: r.size / _MIB, unit=" MiB"),
)

# Figures of the table by group, as a reader calls them.
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
# Shares among those figures, and the figure that says of how many; an interval stands beside them.
_SHARES = {"pck6_level_strict": "keypoints", "class_right": "class_known", "all_levels_right": "exams"}


def render_results(results: Results) -> str:
    """Markdown: targets, figures by group, by level, by scanner, refusals."""
    identity = results.package.identity
    sections = [
        f"# Results: {identity.name} {identity.version}\n",
        f"Digest `{identity.digest}`, part: {results.part}. Written by `spineone-train results`.\n",
        f"## Targets ({results.main})\n",
        _table(("target", "wanted", "seen", "verdict", "95 % interval", "remark"), [t.row(results) for t in TARGETS]),
        "Intervals (95 %) of shares of exams, inputs and keypoints are exact, the others bootstrap ones, patients drawn with "
        "replacement.\n",
        "## By data set\n",
        _transposed(results.content["figures"], _ROWS),
        "## By level\n",
        _by_row("level", results.content["levels"], _LEVEL_ROWS),
        "## By scanner\n",
        _by_row("scanner", results.content["scanners"], _SCANNER_ROWS),
        "## Refusals\n",
        "Put to the detector past series selection; reasons as in `findings.json`.\n",
        _table(("input", "number", "refused", "reasons", "analysed"), list(_refusal_rows(results.tallies))),
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
    interval = _exact(round(value * of_all), of_all) if is_known else None
    return text_of(value) + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
