"""What every series of a study was taken for, which one was read, and why not the others: plain values without free text."""

from __future__ import annotations

from typing import Any

from spineone_core.imaging.judgement import JudgedSeries
from spineone_core.imaging.selection import Selection


def explanation_of(selection: Selection) -> dict[str, Any]:
    """As JSON has it: the verdict, its warnings, and each series with its rank and outcome."""
    ranks = {id(series): number for number, series in enumerate(selection.candidates, start=1)}
    outcomes = (line.split(": ", 1)[1] for line in selection.explanations)
    return {
        "reason": selection.reason.value if selection.reason else None,
        "detail": selection.detail,
        "warnings": list(selection.warnings),
        "series": [
            {**_series(one), "rank": ranks.get(id(one.series)), "outcome": outcome}
            for one, outcome in zip(selection.judged, outcomes, strict=True)
        ],
    }


def _series(judged: JudgedSeries) -> dict[str, Any]:
    """What one series was taken for; none of it is free text of the files."""
    weighting, region, first = judged.weighting, judged.region, judged.series.first
    fat = "" if weighting.fat.value == "plain" else f", {weighting.fat.value}"
    contrast = weighting.kind if weighting.kind == "unknown" else f"{weighting.kind}{fat} by {weighting.source}"
    return {
        "number": first.series_number,
        "series_uid": judged.series.uid,
        "slices": judged.slices,
        "plane": judged.plane,
        "contrast": contrast,
        "region": f"{region.text} by {region.source}" if region.source else region.text,
        "above_lowest_mm": round(judged.above_mm),
        "notes": list(weighting.notes),
    }
