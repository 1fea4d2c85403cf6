"""The table lists what the detection says, the sheet shows every slice once, at one true scale."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from dicom_node.gate.check import check
from dicom_node.results.envelope import to_bytes
from dicom_node.results.overlay import build_overlay, build_sheet, build_table
from spineone_core.anatomy import Structure
from spineone_core.drawing import pages, panel, slices, style
from spineone_core.findings import RESEARCH_USE, Detection, PfirrmannGrade
from tests.unit.synthetic import CREATED, ENHANCED_MR, KEY, SLICE, analysed, classic, enhanced, refused, volume

GOLDEN = Path(__file__).parents[2] / "golden"


def _page(build: Any, detection: Detection | None = None, header: Dataset | None = None, **changes: Any) -> Dataset:
    arguments = {"detection": detection or analysed(), "volume": volume(), "header": header or classic()}
    return build(**{**arguments, "key": KEY, "created": CREATED, **changes})


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[float, ...], tuple[int, int]]]:
    """Every text that is drawn, with its box and the size of its picture."""
    drawn: list[tuple[str, tuple[float, ...], tuple[int, int]]] = []
    draw_text = ImageDraw.ImageDraw.text

    def text(self: Any, xy: Any, text: str, **options: Any) -> None:
        box = self.textbbox(xy, text, font=options["font"], anchor=options.get("anchor"))
        drawn.append((text, box, self.im.size))
        draw_text(self, xy, text, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return drawn


def test_table_lists_every_level_and_all_warnings(words: list[Any]) -> None:
    warnings = tuple(f"warning number {i} about something that takes many words to say" for i in range(12))
    detection = replace(analysed(), warnings=warnings)
    pages.render_table(volume(), detection)
    texts = [text for text, _, _ in words]
    for finding in detection.findings:
        start = texts.index(finding.level)
        assert texts[start + 1 : start + 4] == [
            finding.structure.value,
            style.class_word(finding),
            f"{100 * finding.probability:.1f} %",
        ]
        assert f"{finding.x:.1f}, {finding.y:.1f}" in texts[start : start + 7]
    whole = " ".join(texts)
    assert all(warning in whole for warning in warnings)
    assert detection.model.digest in whole
    assert RESEARCH_USE in texts


def test_legend_has_the_very_marks_that_the_table_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, Structure]] = []
    for module in (pages, panel):
        monkeypatch.setattr(
            module, "draw_marker", lambda canvas, centre, word, structure: drawn.append((word, structure))
        )
    detection = analysed()
    pages.render_table(volume(), detection)
    rows, legend = drawn[: len(detection.findings)], drawn[len(detection.findings) :]
    assert sorted(legend) == sorted(product(("degenerative", "normal", "undecided"), Structure))
    assert set(rows) <= set(legend)


def test_table_says_what_is_true_of_the_undecided(words: list[Any]) -> None:
    """The band of a structure need not lie around one half, and may hold nearly everything."""
    pages.render_table(volume(), analysed())
    whole = " ".join(text for text, _, _ in words)
    assert "half" not in whole
    assert "between the two limits that calibration set for discs and for vertebrae" in whole
    assert "Localisation" not in whole


def graded(detection: Detection, grade: int) -> Detection:
    """The same with a Pfirrmann grade for every disc."""
    said = PfirrmannGrade(grade=grade, probabilities=tuple(float(k == grade) for k in range(1, 6)))
    findings = [replace(f, pfirrmann=said) if f.structure is Structure.DISC else f for f in detection.findings]
    return replace(detection, findings=tuple(findings))


def test_table_shows_the_pfirrmann_grade_of_discs(words: list[Any]) -> None:
    pages.render_table(volume(), graded(analysed(), 4))
    texts = [text for text, _, _ in words]
    assert "Grade" in texts
    assert any(text.startswith("Grade: Pfirrmann grade of a disc") for text in texts)
    for finding in analysed().findings:
        start = texts.index(finding.level)
        assert texts[start + 3] == ("4" if finding.structure is Structure.DISC else "")


def test_table_has_no_column_for_grades_where_there_are_none(words: list[Any]) -> None:
    pages.render_table(volume(), analysed())
    assert not [text for text, _, _ in words if "Grade" in text]


@pytest.mark.parametrize("with_grades", [False, True])
def test_texts_of_the_table_never_overlap_and_lie_inside(words: list[Any], with_grades: bool) -> None:
    detection = graded(analysed(), 5) if with_grades else analysed()
    far = tuple(replace(f, xyz_mm=(-1234.5, -1234.5, -1234.5), x=2047.9, y=2047.9) for f in detection.findings)
    pages.render_table(volume(), replace(analysed(), findings=far))
    for i, (text, box, (width, height)) in enumerate(words):
        assert box[0] >= 0, text
        assert box[1] >= 0, text
        assert box[2] <= width, text
        assert box[3] <= height, text
        for other, b, _ in words[:i]:
            assert box[0] >= b[2] or b[0] >= box[2] or box[1] >= b[3] or b[1] >= box[3], (text, other)


def test_a_refused_study_has_no_table() -> None:
    with pytest.raises(ValueError, match="no levels to list"):
        pages.render_table(volume(), refused())


@pytest.mark.parametrize("count", [1, 3, 15, 240])
@pytest.mark.parametrize(("rows", "columns", "spacing"), [(64, 64, (4.0, 4.0)), (80, 40, (3.0, 6.0))])
def test_sheet_shows_every_slice_once(rows: int, columns: int, spacing: tuple[float, float], count: int) -> None:
    """Each slice has a bright spot of its own; measured on the sheet, spots of neighbours lie where the slices do."""
    dark = volume(rows, columns, spacing, slices=count)
    voxels = np.zeros_like(dark.voxels)
    voxels[:, 10:14, 8:10] = 600
    image, (row_mm, column_mm) = pages.render_sheet(replace(dark, voxels=voxels), analysed())
    assert max(image.shape) <= slices.MAX_IMAGE_SIDE
    bright = image[pages.HEADING : -style.FOOTER_HEIGHT - style.MARGIN].min(axis=2) > 128
    side = 4 * spacing[0] / row_mm
    # Spots have the right size: together they have as many pixels as one spot times the number of slices.
    captions = 200 * count
    expected = count * side * (2 * spacing[1] / column_mm)
    assert 0.6 * expected < bright.sum() < 1.4 * expected + captions
    assert row_mm == pytest.approx(column_mm, rel=0.1)


def test_sheet_frames_the_analysed_slice() -> None:
    source = volume(64, 64, (4.0, 4.0), slices=5)
    image, _ = pages.render_sheet(replace(source, voxels=np.zeros_like(source.voxels)), analysed())
    amber = np.argwhere((image[: -style.FOOTER_HEIGHT - 30] == style.AMBER).all(axis=2))
    across, (width, height) = pages.grid(5, (64, 64), (4.0, 4.0))
    top, left = amber.min(axis=0)
    assert left == style.MARGIN + 2 % across * (width + 8) - 3
    assert top == pages.HEADING + 2 // across * (height + pages.CAPTION + 8) - 3


def test_pages_are_one_series() -> None:
    objects = [_page(build) for build in (build_overlay, build_table, build_sheet)]
    assert [o.InstanceNumber for o in objects] == [1, 2, 3]
    assert len({o.SeriesInstanceUID for o in objects}) == 1
    assert len({o.SOPInstanceUID for o in objects}) == 3
    for page in objects:
        assert check(page) == []
        assert RESEARCH_USE in page.DerivationDescription
        assert to_bytes(pydicom.dcmread(BytesIO(to_bytes(page)))) == to_bytes(page)


def test_nothing_can_be_measured_on_the_table() -> None:
    table = _page(build_table)
    assert "PixelSpacing" not in table
    assert not table.PatientOrientation


def test_the_sheet_names_all_slices() -> None:
    assert len(_page(build_sheet, volume=volume(slices=7)).SourceImageSequence) == 7
    several = _page(build_sheet, analysed(frame_number=5), enhanced(), volume=volume(frames=5))
    (source,) = several.SourceImageSequence
    assert (source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID) == (ENHANCED_MR, SLICE)
    assert list(source.ReferencedFrameNumber) == [4, 5, 6]


def test_sheet_measures_right() -> None:
    sheet = _page(build_sheet)
    across, (width, height) = pages.grid(3, (320, 256), (0.8, 0.8))
    assert [float(v) for v in sheet.PixelSpacing] == pytest.approx([320 * 0.8 / height, 256 * 0.8 / width], abs=1e-6)
    assert across == 3
    assert sheet.PatientOrientation == ["P", "F"]


@pytest.mark.parametrize(("name", "render"), [("table", pages.render_table), ("sheet", pages.render_sheet)])
def test_picture_is_the_golden_one(name: str, render: Any) -> None:
    """As in test_drawing."""
    picture = render(volume(), analysed())
    halved = np.asarray(Image.fromarray(picture if name == "table" else picture[0]).reduce(2)).astype(int)
    golden = np.asarray(Image.open(GOLDEN / f"overlay_{name}.png")).astype(int)
    assert halved.shape == golden.shape
    difference = np.abs(halved - golden).max(axis=2)
    assert difference.mean() < 0.5
    assert (difference > 40).mean() < 0.002
