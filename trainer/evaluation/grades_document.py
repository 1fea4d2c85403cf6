"""The cross-validation of the grading networks as one Markdown document, targets beside results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spineone_core.anatomy import Structure

_WAYS = {
    "direct": "an output of its own",
    "signs": "its signs (noisy-OR)",
    "mean": "the mean of both logits",
    "joined": "its signs, each joined with what the disc network sees at the discs beside it (noisy-OR)",
}
_BANDS = {
    "class": "of all levels of a true class at most the rate is called the other (`calibrate`)",
    "decided": "of the decided levels of a true class at most the rate is called the other",
}


@dataclass(frozen=True, slots=True)
class GradeTarget:
    """A figure of a structure that should be at least or at most ``limit``."""

    structure: Structure
    figure: str
    what: str
    limit: float
    at_least: bool


TARGETS: tuple[GradeTarget, ...] = (
    GradeTarget(Structure.DISC, "macro_f1", "disc macro F1", 0.85, True),
    GradeTarget(Structure.DISC, "auc", "disc AUC", 0.94, True),
    GradeTarget(Structure.DISC, "ece", "disc expected calibration error", 0.04, False),
    GradeTarget(Structure.DISC, "pfirrmann_kappa", "Pfirrmann quadratic kappa", 0.75, True),
    GradeTarget(Structure.DISC, "pfirrmann_within_one", "Pfirrmann within one grade", 0.95, True),
    GradeTarget(Structure.DISC, "undecided", "discs undecided", 0.15, False),
    GradeTarget(Structure.DISC, "decided_wrong", "decided discs wrong", 0.10, False),
    GradeTarget(Structure.DISC, "normal_decided_wrong", "decided normal discs wrong", 0.10, False),
    GradeTarget(Structure.DISC, "degenerative_decided_wrong", "decided degenerative discs wrong", 0.10, False),
    GradeTarget(Structure.VERTEBRA, "macro_f1", "vertebra macro F1", 0.77, True),
    GradeTarget(Structure.VERTEBRA, "auc", "vertebra AUC", 0.87, True),
    GradeTarget(Structure.VERTEBRA, "ece", "vertebra expected calibration error", 0.05, False),
    GradeTarget(Structure.VERTEBRA, "undecided", "vertebrae undecided", 0.40, False),
    GradeTarget(Structure.VERTEBRA, "decided_wrong", "decided vertebrae wrong", 0.10, False),
    GradeTarget(Structure.VERTEBRA, "normal_decided_wrong", "decided normal vertebrae wrong", 0.10, False),
    GradeTarget(Structure.VERTEBRA, "degenerative_decided_wrong", "decided degenerative vertebrae wrong", 0.10, False),
)


def render_grades(content: Mapping[str, Any]) -> str:
    """Markdown of what ``spineone-train grades`` measured (`grades.json`)."""
    reports: Mapping[str, Any] = content["structures"]
    sections = [
        f"# Grading networks, recipe {content['recipe']}, cross-validated\n",
        f"{content['folds']} folds by patient, seed {content['seed']}; written by `spineone-train grades`. Every level is "
        "graded at the point that the detector found, by a network that saw nothing of its patient. Scaling and band of each "
        "fold come from the other folds. Intervals (95 %) are bootstrap ones, patients drawn with replacement.\n",
        "## Targets\n",
        table(("target", "wanted", "seen", "verdict", "95 % interval"), _target_rows(reports)),
    ]
    for name, report in reports.items():
        sections += list(_structure(name, report, content))
    return "\n".join(sections)


def _target_rows(reports: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for target in TARGETS:
        if target.structure.value not in reports:
            continue
        report = reports[target.structure.value]
        value = report["figures"][target.figure]
        gap = value - target.limit if target.at_least else target.limit - value
        verdict = "not measured" if value != value else "held" if gap >= 0 else f"**missed** by {-gap:.3f}"
        low_high = report.get("intervals", {}).get(target.figure)
        yield (
            target.what,
            f"{'at least' if target.at_least else 'at most'} {target.limit:g}",
            _text(value),
            verdict,
            "" if low_high is None else f"{low_high[0]:.3f} to {low_high[1]:.3f}",
        )


def _structure(name: str, report: Mapping[str, Any], content: Mapping[str, Any]) -> Iterator[str]:
    ways, bands = report["by_class_from"], report["by_band"]
    names = list(report["figures"])
    yield f"\n## {name.capitalize()}: {int(report['figures']['levels'])} levels of {report['patients']} patients\n"
    yield f"The class comes from {_WAYS[report['class_from']]}. All ways beside it:\n"
    columns = {"as shipped": report["figures"], **ways}
    for extra, title in (("without_bulges", "without grade-2 bulges"), ("brightness", "brightness alone")):
        if extra in report:
            columns[title] = report[extra]
    yield table(("figure", *columns), [(n, *(_text(c.get(n)) for c in columns.values())) for n in names])
    yield f"\nUndecided bands at a rate of {report['error_rate']:g}; the figures above use `{content['band']}`:\n"
    kept = ("undecided", "decided_wrong", "normal_decided_wrong", "degenerative_decided_wrong")
    yield table(("band", *kept), [(_BANDS[b], *(_text(bands[b][k]) for k in kept)) for b in bands])
    yield "\nLog loss by epoch:\n"
    curve = report["log_loss_by_epoch"]
    yield table(("epoch", *ways), [(epoch, *(_text(curve[epoch][way]) for way in ways)) for epoch in curve])
    yield "\nSigns:\n"
    signs = report["signs"]
    rows = [
        (sign, str(int(s["known"])), _text(s["share"]), _text(s["auc"]), _text(s["ece"])) for sign, s in signs.items()
    ]
    yield table(("sign", "known", "share with it", "AUC", "calibration error"), rows)
    if "confusion" in report:
        yield "\nPfirrmann grades, true by row and said by column:\n"
        grades = [str(k) for k in range(1, 6)]
        cells = [(grade, *map(str, row)) for grade, row in zip(grades, report["confusion"], strict=True)]
        yield table(("", *grades), cells)


def table(head: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: float | None) -> str:
    return (
        "-"
        if value is None or value != value
        else f"{value:.3f}"
        if value != int(value) or abs(value) <= 1
        else f"{value:.0f}"
    )
