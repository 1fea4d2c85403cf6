"""Markers sit on the structure, names never overlap, and the picture is the same every time."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from spineone_core.anatomy import Structure
from spineone_core.drawing import marks, overlay, panel, slices, style
from spineone_core.drawing.overlay import RenderedOverlay, render_overlay
from spineone_core.findings import Detection, Finding, Reason
from spineone_core.imaging.volume import SagittalVolume
from tests.unit.synthetic import analysed, refused, volume

GOLDEN = Path(__file__).parents[2] / "golden"
SIZES = [
    (256, 256, (1.6, 1.6)),
    (320, 256, (0.8, 0.8)),
    (640, 320, (0.5, 1.0)),
    (1024, 1024, (0.3, 0.3)),
    (512, 200, (0.7, 0.7)),
]


def _black(rows: int, columns: int, spacing: tuple[float, float]) -> SagittalVolume:
    dark = volume(rows, columns, spacing)
    return replace(dark, voxels=np.zeros_like(dark.voxels), window=(300.0, 600.0))


def _classes(detection: Detection) -> list[str]:
    return [style.class_word(f) for f in detection.findings]


def _centroid(rendered: RenderedOverlay, finding: Finding) -> tuple[float, float]:
    """Centre of the marker's colour near where it should be."""
    x, y = rendered.to_picture(finding.x, finding.y)
    left, top = round(x) - 13, round(y) - 13
    patch = rendered.image[top : top + 27, left : left + 27].astype(float)
    weight = patch @ np.asarray(style.colour_of(finding), float)
    rows, columns = np.mgrid[top : top + 27, left : left + 27]
    return float((columns * weight).sum() / weight.sum()), float((rows * weight).sum() / weight.sum())


@pytest.mark.parametrize(("rows", "columns", "spacing"), SIZES)
def test_markers_sit_on_the_point(rows: int, columns: int, spacing: tuple[float, float]) -> None:
    detection = analysed(width=columns, height=rows)
    rendered = render_overlay(_black(rows, columns, spacing), detection)
    for finding in detection.findings:
        wanted = rendered.to_picture(finding.x, finding.y)
        assert _centroid(rendered, finding) == pytest.approx(wanted, abs=0.25)


@pytest.mark.parametrize(("rows", "columns", "spacing"), SIZES)
def test_a_bright_pixel_is_drawn_where_to_picture_says(rows: int, columns: int, spacing: tuple[float, float]) -> None:
    """The image itself is scaled without a shift, not only the markers."""
    dark = _black(rows, columns, spacing)
    row, column = rows // 3, columns // 4
    dark.voxels[:, row - 1 : row + 2, column - 1 : column + 2] = 600
    rendered = render_overlay(dark, refused(Reason.LEVELS_INCOMPLETE, chosen=True))
    x, y = rendered.to_picture(column, row)
    reach = round(4 * max(rendered.scale))
    top, left = round(y) - reach, round(x) - reach
    patch = rendered.image[top : top + 2 * reach, left : left + 2 * reach, 0].astype(float)
    at = np.mgrid[top : top + 2 * reach, left : left + 2 * reach]
    assert (at * patch).sum(axis=(1, 2)) / patch.sum() == pytest.approx([y, x], abs=0.3)


@pytest.mark.parametrize(("rows", "columns", "spacing"), SIZES)
def test_pixels_are_square_and_measure_right(rows: int, columns: int, spacing: tuple[float, float]) -> None:
    rendered = render_overlay(_black(rows, columns, spacing), analysed(width=columns, height=rows))
    between_rows, between_columns = rendered.pixel_spacing
    assert between_rows == pytest.approx(between_columns, rel=0.003)
    assert between_rows * rendered.scale[1] == pytest.approx(spacing[0])
    assert between_columns * rendered.scale[0] == pytest.approx(spacing[1])
    assert max(rendered.image.shape) <= slices.MAX_IMAGE_SIDE + 1000
    assert rendered.scale[0] >= 1
    assert rendered.scale[1] >= 0.97


def test_all_classes_and_both_structures_look_different() -> None:
    tiles = []
    for word in ("normal", "degenerative", "undecided"):
        for structure in Structure:
            canvas = Image.new("RGB", (33, 33), (90, 90, 90))
            marks.draw_marker(canvas, (16.0, 16.0), word, structure)
            tiles.append(np.asarray(canvas).astype(int))
    shapes = [np.abs(tile - 90).sum(axis=2) > 60 for tile in tiles]
    for i, one in enumerate(shapes):
        for other in shapes[:i]:
            assert (one != other).sum() > 20, "told apart by colour alone"
    assert len({style.NORMAL_COLOUR, style.DEGENERATIVE_COLOUR, style.UNDECIDED_COLOUR}) == 3


def test_synthetic_detection_shows_every_class() -> None:
    assert set(_classes(analysed())) == {"normal", "degenerative", "undecided"}


def test_positions_that_do_not_fit_lie_evenly() -> None:
    assert overlay.spread([50, 50, 50], 80, 0, 100) == [0, 50, 100]


@pytest.mark.parametrize(("rows", "columns", "spacing"), [*SIZES, (40, 300, (2.0, 2.0)), (900, 60, (0.3, 0.3))])
@pytest.mark.parametrize("crowded", [False, True])
def test_names_never_overlap(
    rows: int, columns: int, spacing: tuple[float, float], crowded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The boxes are those that Pillow really fills. Crowded points lie at the lower edge, with room only above them."""
    boxes: dict[str, tuple[float, ...]] = {}
    draw_text = ImageDraw.ImageDraw.text

    def text(self: Any, xy: Any, text: str, **options: Any) -> None:
        if options.get("stroke_width"):
            kept = {k: options[k] for k in ("font", "anchor", "stroke_width")}
            boxes[text.split()[0]] = self.textbbox(xy, text, **kept)
        draw_text(self, xy, text, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    detection = analysed(width=columns, height=rows)
    if crowded:
        detection = replace(detection, findings=tuple(replace(f, y=rows - 1.0) for f in detection.findings))
    rendered = render_overlay(_black(rows, columns, spacing), detection)
    assert list(boxes) == [f.level for f in detection.findings]
    for above, below in pairwise(boxes.values()):
        assert above[3] <= below[1]
    height, width = rendered.image.shape[:2]
    for left, top, right, bottom in boxes.values():
        assert left >= 0
        assert top >= 0
        assert right <= width - style.PANEL_WIDTH
        assert bottom <= height - style.FOOTER_HEIGHT


@pytest.mark.parametrize("mirrored", [False, True])
def test_names_stand_in_front_of_the_spine(mirrored: bool) -> None:
    dark = _black(320, 256, (0.8, 0.8))
    if mirrored:
        dark = replace(dark, row_direction=-dark.row_direction)
    detection = analysed()
    rendered = render_overlay(dark, detection)
    x, y = (round(v) for v in rendered.to_picture(detection.findings[0].x, detection.findings[0].y))
    row = rendered.image[y - 8 : y + 8, style.MARGIN : style.MARGIN + 800].astype(int).sum(axis=(0, 2))
    front, back = row[x - style.MARGIN + 20 :].sum(), row[: x - style.MARGIN - 20].sum()
    assert bool(front > back) == mirrored


@pytest.mark.parametrize(
    ("direction", "letters"),
    [
        ((0, 1, 0), "P"),
        ((0, -1, 0), "A"),
        ((0, 0, 1), "H"),
        ((0, 0, -1), "F"),
        ((1, 0, 0), "L"),
        ((-1, 0, 0), "R"),
        ((0, 0.8, -0.6), "PF"),
        ((0.1, 0.99, 0.1), "P"),
    ],
)
def test_direction_letters(direction: tuple[float, ...], letters: str) -> None:
    assert slices.direction_letters(np.asarray(direction, float)) == letters


def _plane() -> NDArray[np.float32]:
    return np.linspace(0, 1000, 10_000, dtype=np.float32).reshape(100, 100)


@pytest.mark.parametrize(
    ("window", "own"),
    [
        (None, False),
        ((500.0, 1000.0), True),
        ((500.0, 1.0), False),
        ((-5000.0, 100.0), False),
        ((90000.0, 10.0), False),
        ((0.0, 1e6), False),
    ],
)
def test_window_is_the_series_own_unless_nonsense(window: tuple[float, float] | None, own: bool) -> None:
    low, high = slices.display_window(_plane(), window)
    if own:
        assert (low, high) == (0.0, 999.0)
    else:
        assert (low, high) == slices.percentile_window(_plane())
        assert low < 60 < 900 < high


def test_constant_and_single_pixel_pictures_are_drawn() -> None:
    assert slices.display_window(np.zeros((4, 4), np.float32), None) == (0, 1)
    tiny = render_overlay(_black(2, 2, (1.0, 1.0)), refused(Reason.LEVELS_INCOMPLETE, chosen=True))
    assert tiny.image.dtype == np.uint8


def test_refused_study_is_drawn_without_points() -> None:
    rendered = render_overlay(_black(320, 256, (0.8, 0.8)), refused(Reason.LEVELS_INCOMPLETE, chosen=True))
    inside = rendered.image[style.MARGIN : style.MARGIN + 1000, style.MARGIN : style.MARGIN + 800]
    assert inside.max() == 0


def test_slice_of_the_detection_is_shown() -> None:
    assert render_overlay(volume(slices=5), analysed()).slice_index == 2
    unknown = replace(refused(), sop_instance_uid="")
    assert render_overlay(volume(slices=7), unknown).slice_index == 3
    with pytest.raises(ValueError, match="not in the volume"):
        render_overlay(volume(), replace(analysed(), sop_instance_uid="2.25.77"))


def test_points_outside_the_image_do_not_end_it() -> None:
    far = tuple(replace(f, x=f.x - 500, y=f.y + 900) for f in analysed().findings)
    assert render_overlay(volume(), replace(analysed(), findings=far)).image.any()


@pytest.mark.parametrize("text", ["", "word", "many words " * 30, "x" * 400])
def test_wrapped_text_fits(text: str) -> None:
    font = style.font_of(15)
    assert all(font.getlength(line) <= 300 for line in panel.wrap(text, font, 300))


def test_equal_arguments_give_equal_pixels() -> None:
    one, other = (render_overlay(volume(), analysed()) for _ in range(2))
    assert np.array_equal(one.image, other.image)
    picture = np.asarray(Image.open(BytesIO(slices.png_bytes(one.image))))
    assert np.array_equal(picture, one.image)


GOLDEN_CASES: dict[str, tuple[Any, Any]] = {
    "overlay_analysed": (volume, analysed),
    "overlay_refused": (volume, lambda: refused(Reason.LEVELS_INCOMPLETE, chosen=True)),
}


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_picture_is_the_golden_one(name: str) -> None:
    """Halved and with a tolerance, because FreeType's smoothing differs a little between versions of Pillow."""
    make_volume, make_detection = GOLDEN_CASES[name]
    picture = Image.fromarray(render_overlay(make_volume(), make_detection()).image)
    halved = np.asarray(picture.reduce(2)).astype(int)
    golden = np.asarray(Image.open(GOLDEN / f"{name}.png")).astype(int)
    assert halved.shape == golden.shape
    difference = np.abs(halved - golden).max(axis=2)
    assert difference.mean() < 0.5
    assert (difference > 40).mean() < 0.002


def test_drawing_needs_no_torch() -> None:
    code = "import sys, spineone_core.drawing.overlay; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
