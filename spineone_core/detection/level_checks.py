"""Doubts about level names: signs of six or four lumbar vertebrae, of sacralisation and lumbarisation, of a missing sacrum.

The detector counts five lumbar levels up from the sacrum. Where the picture suggests another count, a warning says so;
the levels keep their names. Where the picture ends before there can be a sacrum, nothing can be counted: it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from spineone_core.anatomy import READING_ORDER, Structure
from spineone_core.detection.chain import Chain
from spineone_core.detection.preprocessing import Prepared
from spineone_core.detection.voting import Candidate
from spineone_core.findings import NotAnalysable, Reason

# A further level counts as seen if its score is at least this share of the chain's median score.
RIVAL_SHARE = 0.6
# A level at the end of the chain is weak if its score is below this share of the median score.
WEAK_SHARE = 0.35
# Allowed lengths of a step beyond the chain's ends, in units of the chain's median step.
STEP_SHARE = (0.5, 1.6)
# A last step shorter than this share of the median step suggests a rudimentary disc.
SHORT_SHARE = 0.6
# Cosine of the largest turn allowed between the chain's end and a further level.
MIN_COSINE = math.cos(math.radians(45))

# Room below L5-S1, in median steps from a vertebra to the next disc. Below the lowest disc of a spine that was cut off there is
# never more than two: else the next disc would be seen. Of 178 good exams the least have 1.98, 2.05 and 2.14.
LEAST_ROOM, USUAL_ROOM = 1.6, 2.1
# A row is picture, not padding, if its grey values differ by this share of the whole picture's.
_SEEN_SHARE = 0.05


def check_room_below(chain: Chain, prepared: Prepared) -> tuple[str, ...]:
    """A warning where there is hardly room for a sacrum between L5-S1 and the picture's lower border; empty where there is.

    Parameters
    ----------
    chain
        The ten chosen candidates.
    prepared
        The pictures they were found in; rows of one grey value at the lower border are no picture.

    Raises
    ------
    NotAnalysable
        ``levels_incomplete`` where a sacrum has no room, so that the lowest disc seen may be another.
    """
    step = float(np.median(np.linalg.norm(np.diff(chain.points, axis=0), axis=1)))
    room = (_last_row(prepared) - chain.candidates[-1].y) / step
    if room < LEAST_ROOM:
        raise NotAnalysable(
            Reason.LEVELS_INCOMPLETE,
            f"the picture ends {room:.1f} steps below L5-S1 ({LEAST_ROOM} are needed): the sacrum is not seen",
        )
    if room < USUAL_ROOM:
        return (
            "the picture ends a little below L5-S1: a spine cut off above the sacrum, all levels wrong, is possible",
        )
    return ()


def _last_row(prepared: Prepared) -> int:
    """The lowest row of the picture that shows anything."""
    image = prepared.images[len(prepared.images) // 2]
    picture = image[image.shape[0] // 2, : prepared.grid.rows]
    spread = np.ptp(picture, axis=1)
    seen = np.flatnonzero(spread > _SEEN_SHARE * np.ptp(picture))
    return int(seen[-1]) if seen.size else prepared.grid.rows - 1


def level_notes(chain: Chain, candidates: dict[Structure, list[Candidate]]) -> tuple[str, ...]:
    """Warnings about the levels; empty for an ordinary lumbar spine.

    Parameters
    ----------
    chain
        The ten chosen candidates.
    candidates
        All candidates that were found, in the same pixels.
    """
    points = chain.points
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    usual = float(np.median([c.score for c in chain.candidates]))
    notes = []
    below = _further(chain.candidates[::-1], candidates[Structure.VERTEBRA], float(np.median(steps)), usual)
    if below is not None:
        notes.append("a vertebra-like level lies below L5-S1: six lumbar vertebrae or a lumbarised S1 are possible")
    above = _further(chain.candidates, candidates[Structure.DISC], float(np.median(steps)), usual)
    if above is not None:
        beyond = _further((above, *chain.candidates), candidates[Structure.VERTEBRA], float(np.median(steps)), usual)
        if beyond is not None:
            notes.append(
                "a further level above L1 looks lumbar: six lumbar vertebrae or a shift by one level are possible"
            )
    if steps[-1] < SHORT_SHARE * float(np.median(steps)):
        notes.append("L5-S1 lies unusually near L5: a rudimentary disc, as in sacralisation, is possible")
    weak = [READING_ORDER[i].name for i in (0, 1, -2, -1) if chain.candidates[i].score < WEAK_SHARE * usual]
    if weak:
        notes.append(f"{' and '.join(weak)} hardly visible: four lumbar vertebrae or a cut field of view are possible")
    return tuple(notes)


def _further(
    chain: Sequence[Candidate], candidates: Sequence[Candidate], step: float, usual: float
) -> Candidate | None:
    """The strongest candidate that would continue the chain beyond its first member, or None."""
    end = np.array([chain[0].x, chain[0].y])
    way = end - np.array([chain[1].x, chain[1].y])
    found = []
    if not way.any():
        return None
    for candidate in candidates:
        beyond = np.array([candidate.x, candidate.y]) - end
        length = float(np.linalg.norm(beyond))
        within = STEP_SHARE[0] * step <= length <= STEP_SHARE[1] * step
        if not length or not within or candidate.score < RIVAL_SHARE * usual:
            continue
        if float(beyond @ way) / (length * float(np.linalg.norm(way))) >= MIN_COSINE:
            found.append(candidate)
    return max(found, key=lambda c: c.score, default=None)
