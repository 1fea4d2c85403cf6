"""Pictures in other planes: the localiser and the axial series."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from spineone_core.phantom.config import PhantomConfig
from spineone_core.phantom.exam import PhantomExam, make_painter
from spineone_core.phantom.plan import Plan
from spineone_core.phantom.scanner import rician
from spineone_core.phantom.sequences import SAGITTAL, Picture


class Block:
    """The anatomy as a coarse block of signal, from which pictures in any plane are cut."""

    _STEP = 3.0
    _HALF_WIDTH = 99.0
    _PIXEL = 1.4
    _TOP, _FRONT = 210.0, -190.0

    def __init__(self, seed: int, exam: PhantomExam, config: PhantomConfig) -> None:
        self._pose, self._shift = exam.plan.pose, exam.plan.shift
        self._noise = np.random.default_rng([seed, 99])
        rows, columns = 300, 264
        upright = Plan(
            rows=rows,
            columns=columns,
            spacing=self._PIXEL,
            slices=1,
            step=1.0,
            thickness=1.0,
            row_direction=np.array(SAGITTAL[0]),
            column_direction=np.array(SAGITTAL[1]),
            corner=np.zeros(3),
            pose=np.eye(3),
            shift=np.zeros(3),
        )
        painter = make_painter(seed, exam.patient, upright, config)
        along_row, along_column = upright.row_direction * self._PIXEL, upright.column_direction * self._PIXEL
        self._signal = np.stack(
            [
                painter.paint(upright.to_anatomy(np.array([x, self._FRONT, self._TOP]), along_row, along_column))[0]
                for x in np.arange(-self._HALF_WIDTH, self._HALF_WIDTH + 1, self._STEP)
            ]
        )

    def picture(
        self,
        uid: str,
        directions: tuple[tuple[float, float, float], tuple[float, float, float]],
        offset: float,
        size: int,
        spacing: float,
        thickness: float,
        step: float,
        height: float,
    ) -> Picture:
        """A square picture ``offset`` mm along its normal from the anatomical point (0, 0, ``height``)."""
        row, column = np.array(directions[0]), np.array(directions[1])
        centre = self._pose @ np.array([0.0, 0.0, height]) + self._shift + np.cross(row, column) * offset
        origin = centre - (row + column) * spacing * (size - 1) / 2
        pixels = np.arange(size) * spacing
        places = origin + pixels[None, :, None] * row + pixels[:, None, None] * column
        anatomical = (places - self._shift) @ self._pose
        index = np.stack(
            [
                (anatomical[..., 0] + self._HALF_WIDTH) / self._STEP,
                (self._TOP - anatomical[..., 2]) / self._PIXEL,
                (anatomical[..., 1] - self._FRONT) / self._PIXEL,
            ]
        )
        signal = ndimage.map_coordinates(self._signal, index, order=1, cval=0.0).astype(np.float32)
        noisy = np.round(rician(signal, 0.01, self._noise) * 1000)
        return Picture(uid, noisy, origin, row, column, spacing, thickness, step)
