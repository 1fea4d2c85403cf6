"""Findings drawn on their slice: the picture that the node's overlay, ``spineone detect --png`` and the demo share.

Anatomy stays visible: markers are a few pixels wide, and everything but the level names stands outside the image. Colour
and shape tell the class (Okabe-Ito colours, safe for colour-blind readers), fill tells disc from vertebra. Nothing here
needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from spineone_core.drawing.marks import SCALE_BAR_MM, draw_marker, draw_scale_bar
from spineone_core.drawing.panel import draw_footer, draw_panel
from spineone_core.drawing.slices import direction_letters, draw_slice, slice_index
from spineone_core.drawing.style import (
    BACKGROUND,
    BLACK,
    FOOTER_HEIGHT,
    MARGIN,
    PANEL_WIDTH,
    TEXT,
    Colour,
    class_word,
    colour_of,
    font_of,
)
from spineone_core.findings import Detection, Finding
from spineone_core.imaging.volume import SagittalVolume

MIN_CANVAS_HEIGHT = 900
# Distance of a level name from its centroid; this is in front of a vertebral body, whose half depth is about 17 mm.
LABEL_DISTANCE_MM = 30.0
LEADER_END_MM = 22.0
# Least distance between the middles of two level names, in picture pixels: more than the height of a name.
LABEL_GAP = 24.0


@dataclass(frozen=True, slots=True, eq=False)
class RenderedOverlay:
    """A picture and how source pixels map to it.

    ``image`` is (rows, columns, 3) uint8. ``scale`` is the number of picture pixels in a source column and in a source row,
    ``offset`` the picture position (column, row) of the slice's upper left corner, ``pixel_spacing`` the mm between picture
    rows and between picture columns.
    """

    image: NDArray[np.uint8]
    scale: tuple[float, float]
    offset: tuple[int, int]
    pixel_spacing: tuple[float, float]
    slice_index: int

    def to_picture(self, x: float, y: float) -> tuple[float, float]:
        """Picture column and row of a source pixel position; pixel centres at integers in both."""
        return (
            self.offset[0] + (x + 0.5) * self.scale[0] - 0.5,
            self.offset[1] + (y + 0.5) * self.scale[1] - 0.5,
        )


def render_overlay(volume: SagittalVolume, detection: Detection) -> RenderedOverlay:
    """Draw the slice that the findings lie on (the middle one for a refused study), the findings, the legend and the model.

    Equal arguments give equal pixels with the same version of Pillow.

    Raises
    ------
    ValueError
        If the detection names a slice that the volume does not have.
    """
    index = slice_index(volume, detection)
    slice_image, spacing = draw_slice(volume, index)
    width, height = slice_image.size
    canvas = Image.new("RGB", _canvas_size(width, height), BACKGROUND)
    offset = (MARGIN, MARGIN)
    canvas.paste(slice_image, offset)
    rows, columns = volume.voxels.shape[1:]
    rendered = RenderedOverlay(
        image=np.empty((0, 0, 3), np.uint8),
        scale=(width / columns, height / rows),
        offset=offset,
        pixel_spacing=spacing,
        slice_index=index,
    )
    _draw_frame(canvas, volume, (width, height), spacing)
    if detection.analysed:
        _draw_findings(canvas, volume, detection, rendered, (width, height))
    draw_panel(canvas, detection, left=width + 2 * MARGIN, position=(index + 1, len(volume.voxels)))
    draw_footer(canvas)
    return RenderedOverlay(np.asarray(canvas), rendered.scale, offset, spacing, index)


def _canvas_size(width: int, height: int) -> tuple[int, int]:
    return width + 2 * MARGIN + PANEL_WIDTH, max(height + 2 * MARGIN + FOOTER_HEIGHT, MIN_CANVAS_HEIGHT)


def _draw_frame(
    canvas: Image.Image, volume: SagittalVolume, size: tuple[int, int], spacing: tuple[float, float]
) -> None:
    draw, font = ImageDraw.Draw(canvas), font_of(20, bold=True)
    width, height = size
    middle_x, middle_y = MARGIN + width / 2, MARGIN + height / 2
    places = {
        (MARGIN / 2, middle_y): -volume.row_direction,
        (MARGIN * 1.5 + width, middle_y): volume.row_direction,
        (middle_x, MARGIN / 2): -volume.column_direction,
        (middle_x, MARGIN * 1.5 + height): volume.column_direction,
    }
    for place, direction in places.items():
        draw.text(place, direction_letters(direction), font=font, fill=TEXT, anchor="mm")
    length = SCALE_BAR_MM / spacing[1]
    # The bar lies below the image, or below the panel where a narrow image leaves no room beside the letter in the middle.
    left = MARGIN if length + 100 < width / 2 else width + 2 * MARGIN
    draw_scale_bar(draw, left, MARGIN + height + MARGIN // 2, spacing[1])


def _draw_findings(
    canvas: Image.Image,
    volume: SagittalVolume,
    detection: Detection,
    rendered: RenderedOverlay,
    size: tuple[int, int],
) -> None:
    centres = [rendered.to_picture(f.x, f.y) for f in detection.findings]
    _draw_labels(canvas, detection.findings, centres, _label_side(volume, centres, size), rendered)
    for finding, centre in zip(detection.findings, centres, strict=True):
        draw_marker(canvas, centre, class_word(finding), finding.structure)


def _label_side(volume: SagittalVolume, centres: list[tuple[float, float]], size: tuple[int, int]) -> int:
    """-1 puts the names left of the spine, 1 right of it: in front of the spine unless there is no room."""
    anterior = -float(volume.row_direction[1])
    side = 1 if anterior > 0 else -1
    room = min(x for x, _ in centres) - MARGIN if side < 0 else MARGIN + size[0] - max(x for x, _ in centres)
    other = MARGIN + size[0] - max(x for x, _ in centres) if side < 0 else min(x for x, _ in centres) - MARGIN
    return side if room > 150 or room >= other else -side


def _draw_labels(
    canvas: Image.Image,
    findings: tuple[Finding, ...],
    centres: list[tuple[float, float]],
    side: int,
    rendered: RenderedOverlay,
) -> None:
    draw, font = ImageDraw.Draw(canvas), font_of(19, bold=True)
    per_mm = 1 / rendered.pixel_spacing[1]
    heights = spread([y for _, y in centres], LABEL_GAP, LABEL_GAP / 2, canvas.height - FOOTER_HEIGHT - LABEL_GAP / 2)
    for finding, (x, y), label_y in zip(findings, centres, heights, strict=True):
        text = finding.level if finding.decided else f"{finding.level} ?"
        label_x = x + side * LABEL_DISTANCE_MM * per_mm
        room = font.getlength(text) + 4
        label_x = max(label_x, room) if side < 0 else min(label_x, canvas.width - PANEL_WIDTH - room)
        colour = colour_of(finding)
        end = (x + side * LEADER_END_MM * per_mm, y)
        _draw_leader(canvas, (label_x - side * 5, label_y), end, colour)
        anchor = "lm" if side > 0 else "rm"
        draw.text((label_x, label_y), text, font=font, fill=colour, anchor=anchor, stroke_width=2, stroke_fill=BLACK)


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near ``wanted`` (least squares) in the same order, at least ``gap`` apart and between ``low`` and ``high``.

    Where they do not fit, they are spread evenly between the two.
    """
    # Imported here: scipy.optimize takes a second, and most processes never place a label.
    from scipy.optimize import isotonic_regression

    steps = np.arange(len(wanted)) * min(gap, (high - low) / max(len(wanted) - 1, 1))
    placed = isotonic_regression(np.asarray(wanted, dtype=float) - steps).x
    return [float(v) for v in np.clip(placed, low, high - steps[-1]) + steps]


def _draw_leader(canvas: Image.Image, start: tuple[float, float], end: tuple[float, float], colour: Colour) -> None:
    draw = ImageDraw.Draw(canvas)
    points = [(round(start[0]), round(start[1])), (round(end[0]), round(end[1]))]
    draw.line(points, fill=BLACK, width=3)
    draw.line(points, fill=colour, width=1)
