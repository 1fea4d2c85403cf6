"""Where the best series cannot be analysed: which further ones are tried, and what the findings say of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from spineone_core.detection.second_choice import FURTHER_TRIES, STRICTER, Attempt, read_best
from spineone_core.findings import Detection, Reason
from spineone_core.imaging.selection import Selection, select_series
from spineone_core.imaging.series import Series
from tests.unit.imaging.test_regions import at
from tests.unit.imaging.test_selection import stack
from tests.unit.test_findings import MODEL, analysed

LIMIT = 0.16
GOOD, NEAR = 0.01, LIMIT * STRICTER + 0.01
Outcome = Reason | float


class Reader:
    """Gives each series its outcome, a refusal or the score of an analysed one, and keeps the order of what was tried."""

    def __init__(self, *outcomes: tuple[Series, Outcome]) -> None:
        self._outcomes = {series.uid: outcome for series, outcome in outcomes}
        self.tried: list[str] = []

    def __call__(self, series: Series, warnings: Sequence[str]) -> Attempt:
        self.tried.append(series.uid)
        outcome = self._outcomes[series.uid]
        if isinstance(outcome, Reason):
            return Attempt(Detection.refused(MODEL, "1.2", outcome, series_uid=series.uid, warnings=warnings), None)
        return Attempt(analysed(series_uid=series.uid, ood_score=outcome, warnings=tuple(warnings)), None)


def read(*outcomes: tuple[Series, Outcome], limit: float | None = LIMIT) -> tuple[Detection, Selection, Reader]:
    reader = Reader(*outcomes)
    attempt, selection = read_best(select_series([series for series, _ in outcomes]), reader, limit)
    return attempt.detection, selection, reader


@pytest.mark.parametrize(
    "reason", [Reason.UNREADABLE_PIXELS, Reason.INVALID_GEOMETRY, Reason.FIELD_OF_VIEW_TOO_LARGE, Reason.NOT_LUMBAR]
)
def test_the_next_series_is_read_and_the_findings_say_so(reason: Reason) -> None:
    intact, damaged = stack(number=4), stack(number=5)
    detection, selection, _ = read((intact, GOOD), (damaged, reason))
    assert detection.analysed
    assert detection.series_uid == intact.uid
    assert selection.chosen is intact
    assert detection.warnings == (f"series 5 (…000000000005) was tried before and refused: {reason.value}",)
    assert selection.explanations == (
        "series 4 (…000000000004): chosen: sagittal, T2 by description, 15 slices",
        f"series 5 (…000000000005): not chosen: sagittal, T2 by description, 15 slices, but refused: {reason.value}",
    )


def test_nothing_more_is_tried_after_a_result() -> None:
    _, _, reader = read((stack(number=4), GOOD), (stack(number=5), GOOD))
    assert reader.tried == [stack(number=5).uid]


def test_at_most_two_further_series_are_tried_and_the_first_refusal_stays() -> None:
    series = [stack(number=n) for n in (1, 2, 3, 4)]
    reasons = [GOOD, Reason.NOT_LUMBAR, Reason.INVALID_GEOMETRY, Reason.UNREADABLE_PIXELS]
    detection, selection, reader = read(*zip(series, reasons, strict=True))
    assert len(reader.tried) == 1 + FURTHER_TRIES
    assert (detection.reason, detection.series_uid) == (Reason.UNREADABLE_PIXELS, series[3].uid)
    assert selection.chosen is series[3]
    assert detection.warnings == (
        "series 3 (…000000000003) was tried too and refused: invalid_geometry",
        "series 2 (…000000000002) was tried too and refused: not_lumbar",
    )


def test_what_the_rules_refuse_is_never_tried() -> None:
    _, _, reader = read((stack("T1 SAG", number=4), GOOD), (stack(number=5), Reason.UNREADABLE_PIXELS))
    assert len(reader.tried) == 1


# ---------------------------------------------------------------- after a refusal by the picture


@pytest.mark.parametrize(
    "reason", [Reason.NOT_LUMBAR, Reason.LEVELS_INCOMPLETE, Reason.LEVELS_IMPLAUSIBLE, Reason.INVALID_OUTPUT]
)
def test_the_next_must_lie_well_inside_the_domain(reason: Reason) -> None:
    detection, _, reader = read((stack(number=4), NEAR), (stack(number=5), reason))
    assert len(reader.tried) == 2
    assert detection.reason is reason
    assert detection.warnings == ("series 4 (…000000000004) was tried too and refused: not_lumbar",)


def test_after_a_damaged_file_the_usual_limit_holds() -> None:
    detection, _, _ = read((stack(number=4), NEAR), (stack(number=5), Reason.UNREADABLE_PIXELS))
    assert detection.analysed


def test_without_a_domain_check_nothing_is_tried_after_a_refusal_by_the_picture() -> None:
    _, _, reader = read((stack(number=4), GOOD), (stack(number=5), Reason.NOT_LUMBAR), limit=None)
    assert len(reader.tried) == 1
    _, _, reader = read((stack(number=4), GOOD), (stack(number=5), Reason.UNREADABLE_PIXELS), limit=None)
    assert len(reader.tried) == 2


def test_a_station_above_a_refused_lowest_one_is_tried_only_where_the_lowest_may_be_the_sacrum() -> None:
    sacrum, lumbar, thoracic = at(-130.0, number=3), at(0.0, number=2), at(240.0, number=4)
    detection, _, reader = read((sacrum, Reason.NOT_LUMBAR), (lumbar, GOOD), (thoracic, GOOD))
    assert detection.series_uid == lumbar.uid
    lowest, above = at(0.0, number=2), at(240.0, number=4)
    _, _, reader = read((lowest, Reason.NOT_LUMBAR), (above, GOOD))
    assert reader.tried == [lowest.uid]


@pytest.mark.parametrize(
    "changes",
    [{"description": "T2 SAG WHOLE SPINE"}, {"description": "T2 SAG SACRUM"}, {"body_part": "CSPINE"}],
)
def test_nothing_that_names_another_region_follows(changes: dict[str, str]) -> None:
    other = stack(number=4, **changes)
    _, _, reader = read((other, GOOD), (stack(number=5), Reason.NOT_LUMBAR))
    assert len(reader.tried) == 1
    _, _, reader = read((other, GOOD), (stack(number=5), Reason.UNREADABLE_PIXELS))
    assert len(reader.tried) == 2


def test_a_fat_suppressed_series_follows_a_plain_one_only_where_it_alone_is_named_lumbar() -> None:
    plain = stack(number=4), Reason.NOT_LUMBAR
    assert len(read(plain, (stack("STIR SAG", number=5), GOOD))[2].tried) == 1
    assert len(read(plain, (stack("LWS STIR SAG", number=5), GOOD))[2].tried) == 2
    named = stack("LWS T2 SAG", number=4), Reason.NOT_LUMBAR
    assert len(read(named, (stack("LWS STIR SAG", number=5), GOOD))[2].tried) == 1


def test_what_is_said_quotes_no_free_text() -> None:
    detection, selection, _ = read(
        (stack("T2 SAG Doe^Jane", number=4), GOOD), (stack("T2 SAG Doe^Jane", number=5), Reason.NOT_LUMBAR)
    )
    assert "doe" not in " ".join((*detection.warnings, *selection.explanations, *selection.warnings)).lower()
