"""Colours, sizes and fonts that all pictures share."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import ImageFont

from spineone_core.findings import Finding

MARGIN = 40
PANEL_WIDTH = 380
FOOTER_HEIGHT = 44
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


def colour_of(finding: Finding) -> Colour:
    """The class colour of a finding."""
    return {"normal": NORMAL_COLOUR, "degenerative": DEGENERATIVE_COLOUR}.get(class_word(finding), UNDECIDED_COLOUR)


def class_word(finding: Finding) -> str:
    """``normal``, ``degenerative`` or ``undecided``."""
    return finding.grade.value if finding.decided else "undecided"


@cache
def font_of(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The project's own font at a size in pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(__file__).parents[1] / "fonts" / name
    # The basic layout engine gives the same everywhere; the complex one depends on system libraries.
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
