"""The text beside the picture: findings, legend and model, or why there are no findings."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from spineone_core.anatomy import Structure
from spineone_core.drawing.marks import draw_marker
from spineone_core.drawing.style import (
    AMBER,
    BLACK,
    FAINT,
    FOOTER_HEIGHT,
    MARGIN,
    RULE,
    TEXT,
    Colour,
    class_word,
    colour_of,
    font_of,
)
from spineone_core.findings import RESEARCH_USE, Detection, Finding, Reason


class Panel:
    """Writes text downwards on a canvas, from ``left`` to near its right edge; ``y`` is where the next line begins."""

    def __init__(self, canvas: Image.Image, left: int) -> None:
        self.canvas, self.draw = canvas, ImageDraw.Draw(canvas)
        self.left, self.right, self.y = left, canvas.width - 24, MARGIN

    def line(self, text: str, size: int, colour: Colour = TEXT, *, bold: bool = False, after: int = 8) -> None:
        """One line of text, ``size`` pixels high, and ``after`` pixels of room."""
        self.draw.text((self.left, self.y), text, font=font_of(size, bold=bold), fill=colour, anchor="lt")
        self.y += size + after

    def paragraph(self, text: str, size: int, colour: Colour, *, lines: int = 4) -> None:
        """Text wrapped to the panel's width, cut after so many lines."""
        wrapped = wrap(text, font_of(size), self.right - self.left)
        for row in wrapped[:lines]:
            self.line(row, size, colour, after=5)

    def rule(self) -> None:
        """A thin line across the panel."""
        self.y += 6
        self.draw.line([(self.left, self.y), (self.right, self.y)], fill=RULE, width=1)
        self.y += 14


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """The text in lines of at most ``width`` pixels; a word that is too long is cut."""
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


def draw_panel(canvas: Image.Image, detection: Detection, left: int, position: tuple[int, int]) -> None:
    """The whole panel from column ``left`` on; ``position`` is the slice's number (from 1) and the number of slices."""
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
    graded = is_graded(findings)
    columns = [("Level", panel.left + 34, "l"), ("Class", panel.left + (110 if graded else 124), "l")]
    columns += [("Pfirrmann", panel.left + 296, "r")] if graded else []
    columns += [("P(deg.)" if graded else "P(degenerative)", panel.right, "r")]
    for name, x, side in columns:
        panel.draw.text((x, panel.y), name, font=heading, fill=FAINT, anchor=f"{side}t")
    panel.y += 28
    for finding in findings:
        middle = panel.y + 9
        draw_marker(panel.canvas, (panel.left + 12, middle), class_word(finding), finding.structure)
        cells = {"Level": finding.level, "Class": class_word(finding), "Pfirrmann": grade_word(finding)}
        for name, x, side in columns:
            text = cells.get(name, f"{100 * finding.probability:.0f} %")
            colour = colour_of(finding) if name == "Class" else TEXT
            panel.draw.text((x, middle), text, font=row_font, fill=colour, anchor=f"{side}m")
        panel.y += 29


def is_graded(findings: tuple[Finding, ...]) -> bool:
    """Whether a disc has a Pfirrmann grade; without one no table has a column for it."""
    return any(finding.pfirrmann is not None for finding in findings)


def grade_word(finding: Finding) -> str:
    """The Pfirrmann grade as a number; nothing where there is none."""
    return "" if finding.pfirrmann is None else str(finding.pfirrmann.grade)


def draw_legend(panel: Panel) -> None:
    """What the marks mean: one for each class, filled for a disc and hollow for a vertebra, as they are drawn."""
    columns = {Structure.DISC: panel.left + 24, Structure.VERTEBRA: panel.left + 96}
    for structure, x in columns.items():
        panel.draw.text((x, panel.y), structure.value, font=font_of(14), fill=FAINT, anchor="mt")
    panel.y += 24
    for word in ("normal", "degenerative", "undecided"):
        for structure, x in columns.items():
            draw_marker(panel.canvas, (x, panel.y + 8), word, structure)
        panel.draw.text((panel.left + 150, panel.y + 8), word, font=font_of(15), fill=TEXT, anchor="lm")
        panel.y += 27


def _draw_refusal(panel: Panel, detection: Detection) -> None:
    panel.line("NOT ANALYSABLE", 22, AMBER, bold=True, after=12)
    reason = detection.reason or Reason.INVALID_OUTPUT
    panel.paragraph(reason.text, 17, TEXT)
    if detection.reason_detail != reason.text:
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
    """The bar along the lower edge that says "research use only"."""
    draw = ImageDraw.Draw(canvas)
    top = canvas.height - FOOTER_HEIGHT
    draw.rectangle([0, top, canvas.width, canvas.height], fill=AMBER)
    centre = (canvas.width / 2, top + FOOTER_HEIGHT / 2)
    draw.text(centre, RESEARCH_USE, font=font_of(20, bold=True), fill=BLACK, anchor="mm")
