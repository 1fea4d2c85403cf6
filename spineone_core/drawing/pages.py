"""Two more pages besides the picture of the findings: the levels as a table, and a sheet of all slices."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from spineone_core.drawing.marks import draw_marker, draw_scale_bar
from spineone_core.drawing.panel import Panel, draw_footer, draw_legend, grade_word, is_graded, wrap
from spineone_core.drawing.slices import (
    MAX_IMAGE_SIDE,
    direction_letters,
    display_window,
    scaled_size,
    slice_index,
    slice_picture,
)
from spineone_core.drawing.style import (
    AMBER,
    BACKGROUND,
    FAINT,
    FOOTER_HEIGHT,
    MARGIN,
    TEXT,
    class_word,
    colour_of,
    font_of,
)
from spineone_core.findings import Detection, Finding
from spineone_core.imaging.volume import SagittalVolume

TABLE_WIDTH = 1200
# Largest side of a slice on the sheet, in pixels; it is smaller where there are many slices.
TILE_SIDE = 400
# Heights in pixels: of the line under each slice, and of what stands above the first row.
CAPTION, HEADING = 30, 70
# Right edges of the columns of numbers, left edges of those of words.
GRADE = "Grade"
_COLUMNS = (
    ("Level", 40, "l"),
    ("Structure", 140, "l"),
    ("Class", 270, "l"),
    (GRADE, 432, "r"),
    ("P(degenerative)", 600, "r"),
    ("Column, row", 820, "r"),
    ("L, P, H in mm", 1120, "r"),
)
_NOTES = (
    "P(degenerative): calibrated probability of degeneration, no measure of its degree. Undecided: it lies between the two "
    "limits that calibration set for discs and for vertebrae; the model calls a class only below the lower and above the "
    "upper one.",
    "Column, row: of the centre in the slice, from 0 at the centre of the first pixel. L, P, H: patient coordinates towards "
    "left, posterior, head.",
)
_GRADE_NOTE = "Grade: Pfirrmann grade of a disc, from 1 (bright, high) to 5 (dark, collapsed), as the model sees it."


def render_table(volume: SagittalVolume, detection: Detection) -> NDArray[np.uint8]:
    """The levels as a table with class, probability and place; below it legend, warnings and model. (rows, 1200, 3) uint8.

    Raises
    ------
    ValueError
        If the study was not analysed, or the volume lacks the detection's slice.
    """
    if not detection.analysed:
        raise ValueError("a study that was not analysed has no levels to list")
    position = slice_index(volume, detection) + 1, len(volume.voxels)
    grades = (_GRADE_NOTE,) if is_graded(detection.findings) else ()
    meanings = (f"A {structure} counts as degenerative at: {text}." for structure, text in detection.definitions)
    words = [*_NOTES, *grades, *meanings, *(f"Warning: {warning}" for warning in detection.warnings)]
    lines = sum(len(wrap(text, font_of(16), TABLE_WIDTH - 2 * MARGIN)) for text in words)
    canvas = Image.new("RGB", (TABLE_WIDTH, 780 + 24 * lines), BACKGROUND)
    panel = Panel(canvas, MARGIN)
    panel.line("SpineOne: levels of the lumbar spine", 26, bold=True, after=8)
    panel.line(f"Sagittal T2, slice {position[0]} of {position[1]}", 16, FAINT)
    panel.rule()
    _draw_rows(panel, detection.findings)
    panel.rule()
    draw_legend(panel)
    panel.rule()
    for text in words:
        panel.paragraph(text, 16, AMBER if text.startswith("Warning") else FAINT, lines=lines)
    panel.rule()
    model = detection.model
    panel.paragraph(f"Model {model.name}, version {model.version}, SHA-256 {model.digest}", 16, FAINT, lines=3)
    cropped = canvas.crop((0, 0, TABLE_WIDTH, panel.y + FOOTER_HEIGHT + 10))
    draw_footer(cropped)
    return np.asarray(cropped)


def _draw_rows(panel: Panel, findings: tuple[Finding, ...]) -> None:
    columns = [column for column in _COLUMNS if column[0] != GRADE or is_graded(findings)]
    for name, x, side in columns:
        panel.draw.text((panel.left + x, panel.y), name, font=font_of(15), fill=FAINT, anchor=f"{side}t")
    panel.y += 34
    for finding in findings:
        middle = panel.y + 10
        draw_marker(panel.canvas, (panel.left + 14, middle), class_word(finding), finding.structure)
        cells = _cells(finding)
        for name, x, side in columns:
            colour = colour_of(finding) if name == "Class" else TEXT
            panel.draw.text((panel.left + x, middle), cells[name], font=font_of(18), fill=colour, anchor=f"{side}m")
        panel.y += 36


def _cells(finding: Finding) -> dict[str, str]:
    """Column -> text."""
    left, posterior, head = finding.xyz_mm
    texts = (
        finding.level,
        finding.structure.value,
        class_word(finding),
        grade_word(finding),
        f"{100 * finding.probability:.1f} %",
        f"{finding.x:.1f}, {finding.y:.1f}",
        f"{left:.1f}, {posterior:.1f}, {head:.1f}",
    )
    return {name: text for (name, _, _), text in zip(_COLUMNS, texts, strict=True)}


# ---------------------------------------------------------------- sheet of slices


def render_sheet(volume: SagittalVolume, detection: Detection) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """All slices side by side, the analysed one framed, (rows, columns, 3) uint8; and the mm between rows and columns.

    All slices have the same scale and window. No slice is larger than ``TILE_SIDE`` and the sheet is not larger than 2048
    pixels.
    """
    chosen = slice_index(volume, detection)
    count, shape = len(volume.voxels), volume.voxels.shape[1:]
    across, (width, height) = grid(count, shape, volume.pixel_spacing)
    limits = display_window(volume.voxels[chosen], volume.window)
    size = (
        across * (width + 8) + 2 * MARGIN,
        math.ceil(count / across) * (height + CAPTION + 8) + HEADING + MARGIN + FOOTER_HEIGHT,
    )
    canvas = Image.new("RGB", (max(size[0], 720), size[1]), BACKGROUND)
    for index in range(count):
        place = (MARGIN + index % across * (width + 8), HEADING + index // across * (height + CAPTION + 8))
        canvas.paste(slice_picture(volume.voxels[index], (width, height), limits), place)
        _draw_caption(canvas, place, (width, height), f"{index + 1} of {count}", chosen=index == chosen)
    spacing = (shape[0] * volume.pixel_spacing[0] / height, shape[1] * volume.pixel_spacing[1] / width)
    _draw_heading(canvas, volume)
    draw_scale_bar(ImageDraw.Draw(canvas), MARGIN, canvas.height - FOOTER_HEIGHT - MARGIN // 2, spacing[1])
    draw_footer(canvas)
    return np.asarray(canvas), spacing


def grid(count: int, shape: tuple[int, ...], spacing: tuple[float, float]) -> tuple[int, tuple[int, int]]:
    """Slices in a row, and width and height of one in pixels: the largest that keep the sheet within bounds."""
    room = MAX_IMAGE_SIDE - HEADING - MARGIN - FOOTER_HEIGHT
    longest_mm = max(shape[0] * spacing[0], shape[1] * spacing[1])
    best = (1, (1, 1))
    for across in range(1, count + 1):
        down = math.ceil(count / across)
        side = min(TILE_SIDE, room // across - 8, room // down - CAPTION - 8)
        size = scaled_size(shape, spacing, max(side, 8) / longest_mm)
        if size >= best[1]:
            best = across, size
    return best


def _draw_caption(
    canvas: Image.Image, place: tuple[int, int], size: tuple[int, int], text: str, *, chosen: bool
) -> None:
    draw = ImageDraw.Draw(canvas)
    (left, top), (width, height) = place, size
    if chosen:
        draw.rectangle([left - 3, top - 3, left + width + 2, top + height + 2], outline=AMBER, width=3)
    words, colour = (f"{text}, analysed", AMBER) if chosen else (text, FAINT)
    font = font_of(15)
    if font.getlength(words) > width:
        words = text.split()[0]
    draw.text((left + width / 2, top + height + 8), words, font=font, fill=colour, anchor="mt")


def _draw_heading(canvas: Image.Image, volume: SagittalVolume) -> None:
    left, right = direction_letters(-volume.row_direction), direction_letters(volume.row_direction)
    top, bottom = direction_letters(-volume.column_direction), direction_letters(volume.column_direction)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, MARGIN // 2), "SpineOne: all slices of the series", font=font_of(22, bold=True), fill=TEXT)
    words = f"of each: left {left}, right {right}, top {top}, bottom {bottom}"
    draw.text((canvas.width - MARGIN, MARGIN // 2 + 5), words, font=font_of(15), fill=FAINT, anchor="rt")
