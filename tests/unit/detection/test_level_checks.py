"""Room for a sacrum below L5-S1: where the picture ends too early, nothing can be counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spineone_core.anatomy import READING_ORDER
from spineone_core.detection.chain import Chain
from spineone_core.detection.detector import Detector
from spineone_core.detection.level_checks import LEAST_ROOM, USUAL_ROOM, check_room_below
from spineone_core.detection.preprocessing import Grid, Prepared
from spineone_core.detection.voting import Candidate
from spineone_core.findings import NotAnalysable, Reason
from spineone_core.phantom.exam import make_phantom

STEP = 20.0
LAST = 30 + 9 * STEP
CHAIN = Chain(tuple(Candidate(60, 30 + STEP * i, 1.0, 0.5) for i in range(len(READING_ORDER))), 0.0, 9.0)


def pictures(rows: int, black: int = 0) -> Prepared:
    """A ramp with ``black`` rows of one grey value below it, padded as the network's input is."""
    images = np.full((3, 1, 512, 128), -1.0, np.float32)
    images[:, :, :rows] = np.linspace(-1, 1, 128)
    return Prepared(images, Grid(rows + black, 128, np.eye(2, 3)), 0)


@pytest.mark.parametrize("black", [0, 60])
def test_room_below__refuses_warns_and_says_nothing(black: int) -> None:
    """Padding below the picture is no room."""
    ends = [round(LAST + share * STEP) + 1 for share in (LEAST_ROOM - 0.2, LEAST_ROOM + 0.2, USUAL_ROOM + 0.2)]
    with pytest.raises(NotAnalysable, match=r"ends 1\.4 steps below L5-S1 \(1\.6 are needed\)") as caught:
        check_room_below(CHAIN, pictures(ends[0], black))
    assert caught.value.reason is Reason.LEVELS_INCOMPLETE
    (note,) = check_room_below(CHAIN, pictures(ends[1], black))
    assert "cut off above the sacrum" in note
    assert check_room_below(CHAIN, pictures(ends[2], black)) == ()


def test_room_below__a_spine_cut_off_in_l4_is_not_named() -> None:
    """The domain check alone would let some of these pass."""
    exam = make_phantom(1_000_002, slices=3)
    detector = Detector.load(device="cpu")
    whole = detector.detect(exam.volume)
    assert whole.analysed
    assert not any("cut off above the sacrum" in note for note in whole.warnings)
    detector._domain = None
    row = round(exam.points["L4"][1])
    cut = detector.detect(replace(exam.volume, voxels=np.ascontiguousarray(exam.volume.voxels[:, :row])))
    assert not cut.analysed
