"""Marks on a picture: findings at exact sub-pixel positions, and the scale bar."""

from __future__ import annotations

from PIL import Image, ImageDraw

from spineone_core.anatomy import Structure
from spineone_core.drawing.style import (
    BLACK,
    DEGENERATIVE_COLOUR,
    NORMAL_COLOUR,
    TEXT,
    UNDECIDED_COLOUR,
    Colour,
    font_of,
)

# Marks are drawn this much larger and scaled down, which gives smooth edges and exact sub-pixel positions.
_SMOOTH = 8
_TILE = 32
SCALE_BAR_MM = 50.0


def draw_marker(canvas: Image.Image, centre: tuple[float, float], word: str, structure: Structure) -> None:
    """Draw a mark: circle = normal, diamond = degenerative, triangle = undecided; filled = disc, hollow = vertebra."""
    corner = (round(centre[0]) - _TILE // 2, round(centre[1]) - _TILE // 2)
    tile = Image.new("RGBA", (_TILE * _SMOOTH, _TILE * _SMOOTH), (0, 0, 0, 0))
    draw = ImageDraw.Draw(tile)
    # + 0.5 goes from pixel-centre to pixel-corner coordinates, in which scaling is exact.
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


def draw_scale_bar(draw: ImageDraw.ImageDraw, left: int, y: int, mm_per_pixel: float) -> None:
    """Draw a bar of 5 cm from column ``left`` on, at row ``y``."""
    right = left + round(SCALE_BAR_MM / mm_per_pixel)
    draw.line([(left, y), (right, y)], fill=TEXT, width=2)
    for x in (left, right):
        draw.line([(x, y - 6), (x, y + 6)], fill=TEXT, width=2)
    draw.text((right + 10, y), "5 cm", font=font_of(16), fill=TEXT, anchor="lm")
