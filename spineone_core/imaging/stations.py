"""Heights of series within one frame of reference: of several stations of the spine the lowest is likely the lumbar one.

Heights only rank. Which station is the lumbar spine, the names, the domain check and the levels decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from spineone_core.imaging.series import Series

# Series whose centres are nearer than this along the patient's axis (mm) are one station. Stations of a whole-spine examination
# lie 200 to 260 mm apart; a repeated series is moved by some centimetres.
STATION_MM = 100.0
# A station whose centre is farther than this above the lowest one (mm) is none that a sacrum series lies below.
NEIGHBOUR_MM = 170.0


def centre_height(series: Series) -> float | None:
    """Height of the centre of a series' pictures in mm (patient z, towards the head), None where its geometry is incomplete."""
    heights = []
    for frame in series.frames:
        if frame.orientation is None or frame.position is None or frame.pixel_spacing is None:
            return None
        along_rows = frame.orientation[2] * frame.pixel_spacing[1] * (frame.columns - 1) / 2
        along_columns = frame.orientation[5] * frame.pixel_spacing[0] * (frame.rows - 1) / 2
        heights.append(frame.position[2] + along_rows + along_columns)
    return float(np.mean(heights)) if heights else None


def stations(series: Sequence[Series]) -> list[tuple[int, float]]:
    """For each series its station, counted from the lowest of its frame of reference, and its height over that one in mm.

    Heights of two frames of reference cannot be compared, so each has a lowest station of its own; a series without a frame of
    reference or geometry is a lowest one.
    """
    found = [(0, 0.0)] * len(series)
    places: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for index, one in enumerate(series):
        height = centre_height(one)
        if height is not None and one.first.frame_of_reference_uid:
            places[one.first.frame_of_reference_uid].append((height, index))
    for group in places.values():
        group.sort()
        lowest = bottom = group[0][0]
        number = 0
        for height, index in group:
            if height - bottom > STATION_MM:
                number, bottom = number + 1, height
            found[index] = (number, height - lowest)
    return found
