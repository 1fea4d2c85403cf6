"""Which series of a study to read, the sagittal T2 of the lumbar spine, and why each other series was not chosen.

The rules come from real headers: descriptions and protocol names are free text from a hundred sites, TE and TR are missing
in some files, BodyPartExamined is empty or wrong in many (so it excludes nothing). Explanations never quote free text,
which may hold a patient's name; they only say what a keyword means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from spineone_core.findings import Reason
from spineone_core.imaging.judgement import JudgedSeries, is_mr_image, judge
from spineone_core.imaging.ranking import lost, rank
from spineone_core.imaging.regions import Region
from spineone_core.imaging.series import Series
from spineone_core.imaging.stations import stations


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome: the chosen series, or a coded reason why there is none.

    Parameters
    ----------
    chosen, reason
        Exactly one of them is set. ``reason`` is ``no_images``, ``no_sagittal_t2`` or ``too_few_slices``.
    detail
        One sentence for a person, without free text from the files.
    explanations
        One line for each series, in the order given.
    warnings
        What a reader of the result should know about the chosen series.
    candidates
        Every series that the rules accept, the best first; empty where none is chosen.
    judged
        What each series was taken for, in the order given.
    min_slices
        As `select_series` was told.
    """

    chosen: Series | None
    reason: Reason | None
    detail: str
    explanations: tuple[str, ...]
    warnings: tuple[str, ...] = field(default=())
    candidates: tuple[Series, ...] = field(default=())
    judged: tuple[JudgedSeries, ...] = field(default=())
    min_slices: int = 1

    def judgement(self, series: Series) -> JudgedSeries:
        """What one of the series was taken for."""
        return next(one for one in self.judged if one.series is series)

    def instead(self, series: Series, refused: Sequence[tuple[Series, Reason]]) -> Selection:
        """The same study with another candidate chosen, because those before it turned out not to be analysable."""
        best = self.judgement(series)
        reasons = {id(one): reason for one, reason in refused}
        lines = tuple(
            f"{one.label}: not chosen: {one.describe()}, but refused: {reasons[id(one.series)]}"
            if id(one.series) in reasons
            else f"{one.label}: {_outcome(one, best, self.min_slices)}"
            for one in self.judged
        )
        before = (f"{self.judgement(one).label} was tried before and refused: {reason}" for one, reason in refused)
        warnings = (*before, *_warnings(best, self._accepted()))
        return replace(self, chosen=series, detail=best.describe(), explanations=lines, warnings=warnings)

    def _accepted(self) -> list[JudgedSeries]:
        return [self.judgement(one) for one in self.candidates]


def select_series(series: Sequence[Series], *, min_slices: int = 1) -> Selection:
    """Choose the sagittal T2 series of the lumbar spine.

    Parameters
    ----------
    series
        All series of a study, as `spineone_core.imaging.series.group_series` gives them.
    min_slices
        A series with fewer slices at distinct positions is refused.

    Returns
    -------
    Selection
        The accepted series in the order of `spineone_core.imaging.ranking.CRITERIA`: plain T2 is preferred to fat-suppressed, a
        lumbar description to none, of several stations the lowest, contrast from the description to contrast from
        AcquisitionContrast and that to contrast from TE and TR, more slices to fewer, finer pixels to coarser, and the later
        series to the earlier one (a series is repeated where the patient moved).

    Raises
    ------
    ValueError
        If ``min_slices`` is less than 1.
    """
    if min_slices < 1:
        raise ValueError(f"min_slices {min_slices} must be at least 1")
    judged = _with_stations([judge(one, series) for one in series])
    usable = sorted((c for c in judged if c.excluded is None), key=lambda c: rank(c, min_slices), reverse=True)
    if not usable:
        return _none_found(judged, min_slices)
    best = usable[0]
    if best.slices < min_slices:
        detail = f"the best sagittal T2 series has {best.slices} slices; {min_slices} are needed"
        lines = tuple(f"{c.label}: not chosen: {c.excluded or 'too few slices'}" for c in judged)
        return Selection(None, Reason.TOO_FEW_SLICES, detail, lines, judged=tuple(judged), min_slices=min_slices)
    lines = tuple(f"{c.label}: {_outcome(c, best, min_slices)}" for c in judged)
    accepted = [c for c in usable if c.slices >= min_slices]
    candidates = tuple(c.series for c in accepted)
    warnings = _warnings(best, accepted)
    return Selection(best.series, None, best.describe(), lines, warnings, candidates, tuple(judged), min_slices)


def _with_stations(judged: list[JudgedSeries]) -> list[JudgedSeries]:
    """With the heights of the accepted series; one of the sacrum may lie below the lumbar one and counts for no station."""
    accepted = [
        i for i, one in enumerate(judged) if one.excluded is None and Region.SACRAL.value not in one.region.text
    ]
    found = stations([judged[i].series for i in accepted])
    places = dict(zip(accepted, found, strict=True))
    return [
        replace(one, station=places[i][0], above_mm=places[i][1]) if i in places else one
        for i, one in enumerate(judged)
    ]


def _none_found(judged: list[JudgedSeries], min_slices: int) -> Selection:
    lines = tuple(f"{c.label}: not chosen: {c.excluded}" for c in judged)
    if not any(is_mr_image(c.series.first) for c in judged):
        reason, detail = Reason.NO_IMAGES, "no MR image among the files"
    else:
        counts = Counter(c.excluded for c in judged)
        summary = ", ".join(f"{number} {why}" for why, number in counts.most_common())
        reason, detail = Reason.NO_SAGITTAL_T2, f"{len(judged)} series: {summary}"
    return Selection(None, reason, detail, lines, judged=tuple(judged), min_slices=min_slices)


def _outcome(candidate: JudgedSeries, best: JudgedSeries, min_slices: int) -> str:
    if candidate is best:
        return f"chosen: {candidate.describe()}"
    if candidate.excluded:
        return f"not chosen: {candidate.excluded}"
    return f"not chosen: {candidate.describe()}, but {lost(candidate, best, min_slices)}"


def _warnings(candidate: JudgedSeries, accepted: Sequence[JudgedSeries]) -> tuple[str, ...]:
    weighting, region = candidate.weighting, candidate.region
    warnings = []
    if candidate.slices == 1:
        warnings.append("only one slice: side-to-side information is missing")
    if weighting.fat_suppressed:
        warnings.append("the series is fat-suppressed; the model was made for plain T2")
    if candidate.derived:
        warnings.append("the pictures are marked as derived; taken as acquired by their sequence parameters")
    if region.rank == 0:
        warnings.append("the description names another or a larger region than the lumbar spine")
    elif region.rank == 1 and region.body_part < 0:
        warnings.append("BodyPartExamined names another region than the lumbar spine")
    if region.rank < 2 and any(one.station != candidate.station for one in accepted):
        warnings.append(
            "no description names the lumbar spine; among several stations it was chosen by height or BodyPartExamined"
        )
    if weighting.source not in ("description", "protocol name"):
        warnings.append(f"no description says T2; taken as T2 by {weighting.source}")
    return (*warnings, *weighting.notes)
