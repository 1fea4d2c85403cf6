"""Which of two series that the rules accept is read first, and in what respect it is better."""

from __future__ import annotations

from spineone_core.imaging.judgement import JudgedSeries

# More slices than this make no series better. A field of view outside this range is not a single lumbar view.
ENOUGH_SLICES = 11
USUAL_VIEW_MM = (180.0, 450.0)
_SOURCES = {"description": 3, "protocol name": 2, "AcquisitionContrast": 1}
# What decides, the weightiest first, and what is said of a series that loses by it. docs/conformance.md has the same order.
CRITERIA: tuple[tuple[str, str], ...] = (
    ("geometry", "its geometry is incomplete"),
    ("slices needed", "it has too few slices"),
    ("fat", "a series without fat suppression is preferred"),
    ("acquired", "it is marked as derived"),
    ("region by name", "another is described as lumbar"),
    ("region by BodyPartExamined", "another's BodyPartExamined says lumbar"),
    ("height", "another lies lower in the body"),
    ("field of view", "its field of view is unusual"),
    ("source of the contrast", "another's contrast is surer"),
    ("slices", "another has more slices"),
    ("pixels", "another has finer pixels"),
    ("all slices", "another has more slices"),
    ("series number", "a later series is preferred"),
    ("UID", "another came first"),
)


def rank(candidate: JudgedSeries, min_slices: int) -> tuple[object, ...]:
    """The values of CRITERIA; greater is better."""
    first = candidate.series.first
    rows_mm, columns_mm = first.pixel_spacing or (0.0, 0.0)
    view = first.rows * rows_mm
    finest = -max(rows_mm, columns_mm) if rows_mm else -99.0
    return (
        candidate.placed,
        candidate.slices >= min_slices,
        not candidate.weighting.fat_suppressed,
        not candidate.derived,
        candidate.region.rank,
        candidate.region.body_part,
        -candidate.station,
        USUAL_VIEW_MM[0] <= view <= USUAL_VIEW_MM[1],
        _SOURCES.get(candidate.weighting.source, 0),
        min(candidate.slices, ENOUGH_SLICES),
        round(finest, 2),
        candidate.slices,
        first.series_number or 0,
        first.series_uid,
    )


def lost(candidate: JudgedSeries, best: JudgedSeries, min_slices: int) -> str:
    """In what respect the chosen series is better."""
    pairs = zip(rank(candidate, min_slices), rank(best, min_slices), CRITERIA, strict=True)
    return next((why for mine, theirs, (_, why) in pairs if mine != theirs), CRITERIA[-1][1])
