"""The second choice: where the best series cannot be analysed, the next ones that the header rules accept are tried.

False reports are counted by study, so more tries must not make more of them. A file that cannot be read says nothing of the
spine: the next series is what would have been chosen without it. A refusal by the picture may mean that the study shows no
lumbar spine at all, so what follows it must have nothing that speaks against the lumbar spine, and must look the more like it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from spineone_core.findings import Detection, Reason
from spineone_core.imaging.judgement import JudgedSeries
from spineone_core.imaging.selection import Selection
from spineone_core.imaging.series import Series
from spineone_core.imaging.volume import SagittalVolume

# At most so many series are tried after the first.
FURTHER_TRIES = 2
# After a refusal by the picture, the out-of-distribution score may be at most this part of the model's limit. Good exams lie far
# below it (docs/decisions/017-physics-before-words.md has what was measured).
STRICTER = 0.25
# Refusals by what the picture shows; the others are of files and geometry.
BY_PICTURE = frozenset({Reason.NOT_LUMBAR, Reason.LEVELS_INCOMPLETE, Reason.LEVELS_IMPLAUSIBLE, Reason.INVALID_OUTPUT})


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """What reading one series gave; ``volume`` None where its pixels could not be read."""

    detection: Detection
    volume: SagittalVolume | None


def read_best(
    selection: Selection, attempt: Callable[[Series, Sequence[str]], Attempt], limit: float | None
) -> tuple[Attempt, Selection]:
    """Read the candidates of a selection, the best first, until one is analysed.

    Parameters
    ----------
    selection
        With at least one candidate.
    attempt
        Reads one series; it is given the warnings that the detection is to carry.
    limit
        The limit of the domain check, None where the model has none: then nothing is tried after a refusal by the picture.

    Returns
    -------
    tuple
        The attempt whose series was analysed, and the selection that says so and which were refused before. If none was, the
        first attempt, with the others in its warnings, and the selection as it was.
    """
    first = attempt(selection.candidates[0], selection.warnings)
    refused = [(selection.candidates[0], first.detection)]
    for series in selection.candidates[1:]:
        if refused[-1][1].analysed or len(refused) > FURTHER_TRIES:
            break
        if not _may_follow(selection.judgement(series), selection, refused, limit):
            continue
        chosen = selection.instead(series, [(one, d.reason) for one, d in refused if d.reason is not None])
        tried = attempt(series, chosen.warnings)
        tried = replace(tried, detection=_strictly(tried.detection, refused, limit))
        if tried.detection.analysed:
            return tried, chosen
        refused.append((series, tried.detection))
    others = [f"{selection.judgement(one).label} was tried too and refused: {d.reason}" for one, d in refused[1:]]
    return replace(first, detection=replace(first.detection, warnings=(*first.detection.warnings, *others))), selection


def _may_follow(
    candidate: JudgedSeries, selection: Selection, refused: Sequence[tuple[Series, Detection]], limit: float | None
) -> bool:
    """Whether a candidate may be tried after those refused."""
    seen = [selection.judgement(series) for series, detection in refused if detection.reason in BY_PICTURE]
    if not seen:
        return True
    if limit is None or not candidate.maybe_lumbar:
        return False
    named = any(one.region.rank == 2 for one in seen)
    if candidate.region.rank < 2 and named and all(one.station != candidate.station for one in seen):
        return False
    # Fat-suppressed series are read where there is no plain one: not beside a plain one that may well be the lumbar spine.
    plain = any(not one.weighting.fat_suppressed for one in seen)
    return not (candidate.weighting.fat_suppressed and plain) or (candidate.region.rank == 2 and not named)


def _strictly(detection: Detection, refused: Sequence[tuple[Series, Detection]], limit: float | None) -> Detection:
    """The detection, or a refusal where it follows one by the picture and is not well inside the domain."""
    if not detection.analysed or all(one.reason not in BY_PICTURE for _, one in refused):
        return detection
    score = detection.ood_score
    if limit is not None and score is not None and score <= STRICTER * limit:
        return detection
    return Detection.refused(
        detection.model,
        detection.study_uid,
        Reason.NOT_LUMBAR,
        "as a second choice, its out-of-distribution score is too near the model's limit",
        series_uid=detection.series_uid,
        warnings=detection.warnings,
        ood_score=score,
    )
