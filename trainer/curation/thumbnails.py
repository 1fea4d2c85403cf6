"""Small pictures of exams with their keypoints, and sheets of such pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from spineone_core.anatomy import READING_ORDER, UPPER_DISC, Structure
from spineone_core.arrays import FloatArray
from spineone_core.drawing.marks import draw_marker
from spineone_core.drawing.slices import percentile_window
from trainer.datasets.exam import Exam

HEIGHT, CAPTION = 400, 34
PREDICTED = (255, 80, 200)
LEGEND = "Circle normal, diamond degenerative, triangle unknown; filled disc, hollow vertebra."


def thumbnail(exam: Exam, caption: str, predicted: FloatArray | None = None) -> Image.Image:
    """The annotated slice in square pixels, ``HEIGHT`` high; its points are marked as on overlays, predictions are crosses.

    Parameters
    ----------
    caption
        Two short lines, written below.
    predicted
        (10, 2) column and row in source pixels; a line leads from each true point to its prediction.
    """
    plane = exam.volume.voxels[exam.slice_index]
    between_rows, between_columns = exam.volume.pixel_spacing
    rows, columns = plane.shape
    scale_y = HEIGHT / rows
    scale_x = scale_y * between_columns / between_rows
    low, high = percentile_window(plane)
    grey = (np.clip((plane - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    slice_image = Image.fromarray(grey).resize((max(1, round(columns * scale_x)), HEIGHT), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (slice_image.width, HEIGHT + CAPTION), (0, 0, 0))
    canvas.paste(slice_image.convert("RGB"), (0, 0))
    scale = np.array([scale_x, scale_y])
    if predicted is not None:
        _draw_predictions(canvas, exam, (predicted + 0.5) * scale)
    for level, point in exam.points.items():
        _draw_truth(canvas, exam, level, (np.array(point) + 0.5) * scale)
    ImageDraw.Draw(canvas).multiline_text((3, HEIGHT + 3), caption, fill=(255, 255, 255), spacing=2)
    return canvas


def _draw_truth(canvas: Image.Image, exam: Exam, level: str, place: FloatArray) -> None:
    if level == UPPER_DISC:
        return
    structure = Structure.DISC if "-" in level else Structure.VERTEBRA
    grade = exam.grades.get(level)
    draw_marker(canvas, (float(place[0]), float(place[1])), "undecided" if grade is None else grade.value, structure)


def _draw_predictions(canvas: Image.Image, exam: Exam, places: FloatArray) -> None:
    draw = ImageDraw.Draw(canvas)
    scale = (canvas.height - CAPTION) / exam.volume.voxels.shape[1]
    between_rows, between_columns = exam.volume.pixel_spacing
    for landmark, (x, y) in zip(READING_ORDER, places, strict=True):
        if landmark.level in exam.points:
            column, row = exam.points[landmark.level]
            truth = (column + 0.5) * scale * between_columns / between_rows, (row + 0.5) * scale
            draw.line([truth, (x, y)], fill=PREDICTED, width=1)
        draw.line([(x - 4, y - 4), (x + 4, y + 4)], fill=PREDICTED, width=2)
        draw.line([(x - 4, y + 4), (x + 4, y - 4)], fill=PREDICTED, width=2)


def contact_sheet(pictures: Sequence[Image.Image], columns: int = 6, gap: int = 6) -> Image.Image:
    """The pictures in rows; each cell is as large as the largest picture.

    Raises
    ------
    ValueError
        If there is no picture.
    """
    if not pictures:
        raise ValueError("no picture for the sheet")
    width, height = max(p.width for p in pictures) + gap, max(p.height for p in pictures) + gap
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width + gap, rows * height + gap), (40, 40, 40))
    for k, picture in enumerate(pictures):
        sheet.paste(picture, (gap + k % columns * width, gap + k // columns * height))
    return sheet


def png_of(picture: Image.Image) -> bytes:
    """The picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
