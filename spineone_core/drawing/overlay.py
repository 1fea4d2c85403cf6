"""Findings drawn on their slice: the one picture that overlay, ``spineone detect --png`` and demo share.

Anatomy stays visible: markers are a few pixels wide, everything but the level names stands outside the image. Class is
told by colour and shape (Okabe-Ito colours, safe for colour-blind readers), disc and vertebra by fill. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.optimize import isotonic_regression

from spineone_core.anatomy import Structure
from spineone_core.findings import REASON_TEXT, Detection, Finding, Reason
from spineone_core.imaging.series import SagittalVolume

RESEARCH_USE = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS"

IMAGE_HEIGHT = 1000
MAX_IMAGE_SIDE = 2048
MIN_CANVAS_HEIGHT = 900
MARGIN = 40
PANEL_WIDTH = 380
FOOTER_HEIGHT = 44
SCALE_BAR_MM = 50.0
# Distance of a level name from its centroid: beyond the front edge of a vertebral body (half depth about 17 mm).
LABEL_DISTANCE_MM = 30.0
LEADER_END_MM = 22.0
# Between the middles of two level names, in picture pixels: more than the height of one.
LABEL_GAP = 24.0

Colour = tuple[int, int, int]
BLACK: Colour = (0, 0, 0)
BACKGROUND: Colour = (14, 16, 20)
TEXT: Colour = (232, 234, 238)
FAINT: Colour = (150, 156, 166)
RULE: Colour = (52, 57, 66)
AMBER: Colour = (240, 190, 70)
NORMAL_COLOUR: Colour = (86, 180, 233)
DEGENERATIVE_COLOUR: Colour = (230, 159, 0)
UNDECIDED_COLOUR: Colour = (200, 200, 200)

# Vector marks are drawn this much larger and scaled down: smooth edges, exact sub-pixel position.
_SMOOTH = 8
_TILE = 32


@dataclass(frozen=True, slots=True, eq=False)
class RenderedOverlay:
    """A picture and how source pixels map to it.

    ``image`` is (rows, columns, 3) uint8. ``scale`` is picture pixels per source column and per source row; ``offset`` the
    picture position (column, row) of the slice's upper left corner; ``pixel_spacing`` mm between picture rows and columns.
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
    """Draw the slice that the findings lie on (the middle one for a refused study), findings, legend and model.

    Equal arguments give equal pixels with one version of Pillow.

    Raises
    ------
    ValueError
        If the detection names a slice that the volume has not.
    """
    index = slice_index(volume, detection)
    slice_image, spacing = _slice_image(volume, index)
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
    _draw_panel(canvas, detection, left=width + 2 * MARGIN, position=(index + 1, len(volume.voxels)))
    draw_footer(canvas)
    return RenderedOverlay(np.asarray(canvas), rendered.scale, offset, spacing, index)


def slice_index(volume: SagittalVolume, detection: Detection) -> int:
    """Index of the detection's slice in the volume; the middle one where a refused study names none."""
    for index, source in enumerate(volume.sources):
        if (source.sop_instance_uid, source.frame_number) == (detection.sop_instance_uid, detection.frame_number):
            return index
    if detection.analysed:
        raise ValueError(f"slice {detection.sop_instance_uid} is not in the volume")
    return volume.middle_index


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """An RGB picture as PNG."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


# ---------------------------------------------------------------- the slice


def _slice_image(volume: SagittalVolume, index: int) -> tuple[Image.Image, tuple[float, float]]:
    """The slice, windowed, with square pixels, and its mm between rows and columns."""
    plane = volume.voxels[index]
    rows, columns = plane.shape
    width, height = _picture_size(rows, columns, volume.pixel_spacing)
    picture = slice_picture(plane, (width, height), display_window(plane, volume.window))
    return picture, (rows * volume.pixel_spacing[0] / height, columns * volume.pixel_spacing[1] / width)


def slice_picture(plane: NDArray[np.float32], size: tuple[int, int], limits: tuple[float, float]) -> Image.Image:
    """A slice as grey RGB picture of a width and height, from the darkest to the brightest value of ``limits``."""
    resized = Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS)
    return Image.fromarray(_windowed(np.asarray(resized), limits)).convert("RGB")


def _picture_size(rows: int, columns: int, spacing: tuple[float, float]) -> tuple[int, int]:
    """Width and height in pixels: about ``IMAGE_HEIGHT`` high, never below the native resolution, bounded."""
    height_mm, width_mm = rows * spacing[0], columns * spacing[1]
    per_mm = max(IMAGE_HEIGHT / height_mm, 1 / min(spacing))
    per_mm = min(per_mm, MAX_IMAGE_SIDE / max(height_mm, width_mm))
    return scaled_size((rows, columns), spacing, per_mm)


def scaled_size(shape: tuple[int, ...], spacing: tuple[float, float], per_mm: float) -> tuple[int, int]:
    """Width and height in square pixels, ``per_mm`` of them in a millimetre, of a slice of (rows, columns)."""
    return max(1, round(shape[1] * spacing[1] * per_mm)), max(1, round(shape[0] * spacing[0] * per_mm))


def display_window(plane: NDArray[np.float32], window: tuple[float, float] | None) -> tuple[float, float]:
    """Lowest and highest value shown: the series' own window (PS3.3 C.11.2.1.2), or percentiles where that is nonsense."""
    low, high = percentile_window(plane)
    if window is not None:
        centre, width = window
        own_low, own_high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
        if own_high > own_low and _shows_picture(plane, own_low, own_high, high - low):
            return own_low, own_high
    return low, high


def percentile_window(plane: NDArray[np.float32]) -> tuple[float, float]:
    """From the darkest to nearly the brightest tissue; air and padding do not count."""
    low, top = (float(v) for v in np.percentile(plane, (1, 99.5)))
    tissue = plane[plane > low + 0.05 * (top - low)]
    high = float(np.percentile(tissue, 98.5)) if tissue.size else top
    return (low, high) if high > low else (low, low + 1)


def _shows_picture(plane: NDArray[np.float32], low: float, high: float, value_range: float) -> bool:
    """Neither mostly clipped nor crushed into a few grey levels."""
    clipped_high, clipped_low = float(np.mean(plane >= high)), float(np.mean(plane <= low))
    return clipped_high < 0.25 and clipped_low < 0.9 and value_range > 0.15 * (high - low)


def _windowed(values: NDArray[np.float32], limits: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = limits
    share = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(np.round(255 * share), dtype=np.uint8)


def _canvas_size(width: int, height: int) -> tuple[int, int]:
    return width + 2 * MARGIN + PANEL_WIDTH, max(height + 2 * MARGIN + FOOTER_HEIGHT, MIN_CANVAS_HEIGHT)


# ---------------------------------------------------------------- orientation and scale


def direction_letters(direction: NDArray[np.float64]) -> str:
    """Patient letters of a direction in LPS (PS3.3 C.7.6.1.1.1), strongest first; second only where oblique."""
    names = (("L", "R"), ("P", "A"), ("H", "F"))
    strong = sorted(((abs(v), names[axis][int(v < 0)]) for axis, v in enumerate(direction)), reverse=True)
    return "".join(letter for size, letter in strong[:2] if size > 0.35)


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
    # Below the image, or, where a narrow image leaves no room before the middle letter, below the panel.
    left = MARGIN if length + 100 < width / 2 else width + 2 * MARGIN
    draw_scale_bar(draw, left, MARGIN + height + MARGIN // 2, spacing[1])


def draw_scale_bar(draw: ImageDraw.ImageDraw, left: int, y: int, mm_per_pixel: float) -> None:
    """5 cm, from ``left`` at height ``y``."""
    right = left + round(SCALE_BAR_MM / mm_per_pixel)
    draw.line([(left, y), (right, y)], fill=TEXT, width=2)
    for x in (left, right):
        draw.line([(x, y - 6), (x, y + 6)], fill=TEXT, width=2)
    draw.text((right + 10, y), "5 cm", font=font_of(16), fill=TEXT, anchor="lm")


# ---------------------------------------------------------------- markers and labels


def colour_of(finding: Finding) -> Colour:
    """The class colour of a finding."""
    return {"normal": NORMAL_COLOUR, "degenerative": DEGENERATIVE_COLOUR}.get(class_word(finding), UNDECIDED_COLOUR)


def class_word(finding: Finding) -> str:
    """``normal``, ``degenerative`` or ``undecided``."""
    return finding.grade.value if finding.decided else "undecided"


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


def draw_marker(canvas: Image.Image, centre: tuple[float, float], word: str, structure: Structure) -> None:
    """One mark: circle = normal, diamond = degenerative, triangle = undecided; filled = disc, hollow = vertebra."""
    corner = (round(centre[0]) - _TILE // 2, round(centre[1]) - _TILE // 2)
    tile = Image.new("RGBA", (_TILE * _SMOOTH, _TILE * _SMOOTH), (0, 0, 0, 0))
    draw = ImageDraw.Draw(tile)
    # + 0.5: from pixel-centre to pixel-corner coordinates, in which scaling is exact.
    x, y = (round((c - k + 0.5) * _SMOOTH) for c, k in zip(centre, corner, strict=True))
    colour = {"normal": NORMAL_COLOUR, "degenerative": DEGENERATIVE_COLOUR}.get(word, UNDECIDED_COLOUR)
    if structure is Structure.DISC:
        _shape(draw, word, (x, y), 6.5, BLACK)
        _shape(draw, word, (x, y), 5.0, colour)
    else:
        for radius, fill in ((9.0, BLACK), (8.0, colour), (5.6, BLACK), (4.6, None)):
            _shape(draw, word, (x, y), radius, fill)
        _shape(draw, "normal", (x, y), 1.2, colour)
    smooth = tile.resize((_TILE, _TILE), Image.Resampling.BOX)
    canvas.paste(smooth, corner, smooth)


def _shape(draw: ImageDraw.ImageDraw, word: str, centre: tuple[int, int], radius: float, fill: Colour | None) -> None:
    x, y = centre
    colour = (*fill, 255) if fill is not None else (0, 0, 0, 0)
    if word == "normal":
        r = radius * _SMOOTH
        draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)
    elif word == "degenerative":
        r = 1.25 * radius * _SMOOTH
        draw.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill=colour)
    else:
        r = 1.4 * radius * _SMOOTH  # from the centroid, which lies on the point, to a corner
        draw.polygon([(x, y - r), (x + 0.866 * r, y + r / 2), (x - 0.866 * r, y + r / 2)], fill=colour)


def _label_side(volume: SagittalVolume, centres: list[tuple[float, float]], size: tuple[int, int]) -> int:
    """-1 for names left of the spine, 1 for right: in front of it, unless there is no room."""
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
    """The positions nearest to ``wanted`` (least squares) that keep its order, lie ``gap`` apart and from ``low`` to ``high``.

    Where they do not fit, they lie evenly between the two.
    """
    steps = np.arange(len(wanted)) * min(gap, (high - low) / max(len(wanted) - 1, 1))
    placed = isotonic_regression(np.asarray(wanted, dtype=float) - steps).x
    return [float(v) for v in np.clip(placed, low, high - steps[-1]) + steps]


def _draw_leader(canvas: Image.Image, start: tuple[float, float], end: tuple[float, float], colour: Colour) -> None:
    draw = ImageDraw.Draw(canvas)
    points = [(round(start[0]), round(start[1])), (round(end[0]), round(end[1]))]
    draw.line(points, fill=BLACK, width=3)
    draw.line(points, fill=colour, width=1)


# ---------------------------------------------------------------- panel and footer


@cache
def font_of(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(__file__).parents[1] / "fonts" / name
    # The basic layout engine is the same everywhere; the complex one depends on system libraries.
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


class Panel:
    """Text written downwards beside the image."""

    def __init__(self, canvas: Image.Image, left: int) -> None:
        self.canvas, self.draw = canvas, ImageDraw.Draw(canvas)
        self.left, self.right, self.y = left, canvas.width - 24, MARGIN

    def line(self, text: str, size: int, colour: Colour = TEXT, *, bold: bool = False, after: int = 8) -> None:
        self.draw.text((self.left, self.y), text, font=font_of(size, bold=bold), fill=colour, anchor="lt")
        self.y += size + after

    def paragraph(self, text: str, size: int, colour: Colour, *, lines: int = 4) -> None:
        wrapped = wrap(text, font_of(size), self.right - self.left)
        for row in wrapped[:lines]:
            self.line(row, size, colour, after=5)

    def rule(self) -> None:
        self.y += 6
        self.draw.line([(self.left, self.y), (self.right, self.y)], fill=RULE, width=1)
        self.y += 14


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Words in lines no wider than ``width`` pixels; a word that is too long is cut."""
    lines = [""]
    for word in text.split():
        while font.getlength(word) > width:
            word = word[:-2] + "…"
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


def _draw_panel(canvas: Image.Image, detection: Detection, left: int, position: tuple[int, int]) -> None:
    panel = Panel(canvas, left)
    panel.line("SpineOne", 26, bold=True, after=6)
    panel.line("Lumbar spine, sagittal T2" if detection.analysed else "Sagittal MRI", 16, FAINT)
    panel.line(f"Slice {position[0]} of {position[1]}", 16, FAINT)
    panel.rule()
    if detection.analysed:
        _draw_table(panel, detection.findings)
        panel.rule()
        draw_legend(panel)
    else:
        _draw_refusal(panel, detection)
    panel.rule()
    _draw_model(panel, detection)


def _draw_table(panel: Panel, findings: tuple[Finding, ...]) -> None:
    heading, row_font = font_of(14), font_of(17)
    columns = (panel.left + 34, panel.left + 124, panel.right)
    for x, text, anchor in zip(columns, ("Level", "Class", "P(degenerative)"), ("lt", "lt", "rt"), strict=True):
        panel.draw.text((x, panel.y), text, font=heading, fill=FAINT, anchor=anchor)
    panel.y += 28
    for finding in findings:
        middle = panel.y + 9
        draw_marker(panel.canvas, (panel.left + 12, middle), class_word(finding), finding.structure)
        cells = (finding.level, class_word(finding), f"{100 * finding.probability:.0f} %")
        for x, text, anchor in zip(columns, cells, ("lm", "lm", "rm"), strict=True):
            colour = colour_of(finding) if x == columns[1] else TEXT
            panel.draw.text((x, middle), text, font=row_font, fill=colour, anchor=anchor)
        panel.y += 29


def draw_legend(panel: Panel) -> None:
    font = font_of(15)
    rows = [
        [("normal", Structure.DISC, "normal"), ("degenerative", Structure.DISC, "degenerative")],
        [("undecided", Structure.DISC, "undecided")],
        [("normal", Structure.DISC, "filled: disc"), ("normal", Structure.VERTEBRA, "hollow: vertebra")],
    ]
    for row in rows:
        for column, (word, structure, text) in enumerate(row):
            x = panel.left + 12 + 160 * column
            draw_marker(panel.canvas, (x, panel.y + 8), word, structure)
            panel.draw.text((x + 18, panel.y + 8), text, font=font, fill=TEXT, anchor="lm")
        panel.y += 27


def _draw_refusal(panel: Panel, detection: Detection) -> None:
    panel.line("NOT ANALYSABLE", 22, AMBER, bold=True, after=12)
    reason = detection.reason or Reason.INVALID_OUTPUT
    panel.paragraph(REASON_TEXT[reason], 17, TEXT)
    if detection.reason_detail != REASON_TEXT[reason]:
        panel.paragraph(detection.reason_detail, 15, FAINT)


def _draw_model(panel: Panel, detection: Detection) -> None:
    model = detection.model
    panel.paragraph(f"Model {model.name}", 15, FAINT, lines=2)
    panel.line(f"Version {model.version}", 15, FAINT, after=5)
    panel.line(f"SHA-256 {model.digest[:12]}", 15, FAINT)
    for warning in detection.warnings[:3]:
        panel.paragraph(f"Warning: {warning}", 15, AMBER, lines=3)
    if len(detection.warnings) > 3:
        panel.line(f"and {len(detection.warnings) - 3} more warnings (see report)", 15, AMBER)


def draw_footer(canvas: Image.Image) -> None:
    draw = ImageDraw.Draw(canvas)
    top = canvas.height - FOOTER_HEIGHT
    draw.rectangle([0, top, canvas.width, canvas.height], fill=AMBER)
    centre = (canvas.width / 2, top + FOOTER_HEIGHT / 2)
    draw.text(centre, RESEARCH_USE, font=font_of(20, bold=True), fill=BLACK, anchor="mm")
