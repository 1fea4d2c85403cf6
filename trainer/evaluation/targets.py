"""What was measured of a package, and the project's targets for it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest

from spineone_core.detection.model_package import ModelPackage
from trainer.evaluation.evaluation import ALL_REAL
from trainer.evaluation.latency import Latency
from trainer.evaluation.refusals import GOOD, Tally

_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of a package.

    ``content`` is what `Evaluation.to_json` gives; ``main`` names the group in it that the targets are about; ``size`` is
    in bytes.
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
        """The group of all real exams; the first group where there is no such group."""
        groups = self.content["figures"]
        return ALL_REAL if ALL_REAL in groups else next(iter(groups))

    @property
    def figures(self) -> Mapping[str, Any]:
        """The figures of the group `main`, by name."""
        figures: Mapping[str, Any] = self.content["figures"][self.main]
        return figures

    @property
    def false_reports(self) -> tuple[int, int]:
        """How many inputs were analysed that must be refused, and out of how many."""
        foreign = [t for kind, t in self.tallies.items() if not kind.startswith(GOOD)]
        return sum(len(t.analysed) for t in foreign), sum(t.count for t in foreign)

    @property
    def refused_exams(self) -> tuple[int, int]:
        """How many good exams were refused, and out of how many."""
        good = [t for kind, t in self.tallies.items() if kind.startswith(GOOD)]
        return sum(t.reasons.total() for t in good), sum(t.count for t in good)


@dataclass(frozen=True, slots=True)
class Target:
    """A target: the measured ``value`` (None where it was not measured) should be at least or at most ``limit``."""

    what: str
    limit: float
    at_least: bool
    value: Callable[[Measured], float | None]
    unit: str = ""
    interval: Callable[[Measured], tuple[float, float] | None] = lambda measured: None
    note: Callable[[Measured], str] = lambda measured: ""

    def row(self, measured: Measured) -> tuple[str, ...]:
        """The cells of the table: what, wanted, seen, verdict, 95 % interval, remark."""
        value = self.value(measured)
        wanted = f"{'at least' if self.at_least else 'at most'} {self.limit:g}{self.unit}"
        if value is None or value != value:
            return self.what, wanted, "-", "not measured", "", ""
        holds = value >= self.limit if self.at_least else value <= self.limit
        low_high = self.interval(measured)
        between = f"{low_high[0]:.3f} to {low_high[1]:.3f}" if low_high and None not in low_high else ""
        return (
            self.what,
            wanted,
            f"{value:.3f}{self.unit}",
            "held" if holds else "**missed**",
            between,
            self.note(measured),
        )


def _figure(name: str) -> Callable[[Measured], float | None]:
    return lambda measured: measured.figures.get(name)


def _bootstrap(name: str) -> Callable[[Measured], tuple[float, float] | None]:
    return lambda measured: measured.content["intervals"].get(measured.main, {}).get(name)


def _right_exams(measured: Measured) -> tuple[int, int]:
    exams = int(measured.figures["exams"])
    return round(measured.figures["all_levels_right"] * exams), exams


def _share(what: str, limit: float, at_least: bool, counts: Callable[[Measured], tuple[int, int]]) -> Target:
    """A target for a share; ``counts`` gives how many, and out of how many."""

    def value(measured: Measured) -> float | None:
        some, of_all = counts(measured)
        return some / of_all if of_all else None

    return Target(
        what,
        limit,
        at_least,
        value,
        interval=lambda measured: exact_interval(*counts(measured)),
        note=lambda r: "{} of {}".format(*counts(r)),
    )


def exact_interval(some: int, of_all: int) -> tuple[float, float] | None:
    """The exact (Clopper-Pearson) 95 % interval of a share. Even for none or all, it shows how little a few cases prove."""
    if not of_all:
        return None
    found = binomtest(some, of_all).proportion_ci()
    return float(found.low), float(found.high)


def _calibration_note(measured: Measured) -> str:
    mean, most = (measured.figures[f"disc_ece_by_chance{end}"] for end in ("", "_95"))
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
