"""The presentation state points at the right pixels of the right slice, and shows it as the image itself would."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import pairwise

import numpy as np
import pydicom
import pytest
from PIL import ImageCms
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.dicom.identifiers import is_own_result
from dicom_node.gate.check import check
from dicom_node.results.envelope import to_bytes
from dicom_node.results.kinds import PRESENTATION
from dicom_node.results.presentation import LAYERS, NOTE_LAYER, build_presentation
from spineone_core.drawing.style import DEGENERATIVE_COLOUR, NORMAL_COLOUR, TEXT, UNDECIDED_COLOUR, class_word
from spineone_core.findings import RESEARCH_USE, Detection
from tests.unit.synthetic import (
    CREATED,
    ENHANCED_MR,
    KEY,
    MR,
    NAMES,
    SERIES,
    SLICE,
    STUDY,
    analysed,
    classic,
    enhanced,
    named,
    poor,
    refused,
    volume,
)


def _state(detection: Detection | None = None, header: Dataset | None = None, **changes: object) -> Dataset:
    source = header if header is not None else classic()
    arguments = {
        "detection": detection or analysed(),
        "volume": volume(frames=detection.frame_number if detection else None),
        "header": source,
        "slice_header": source,
        "key": KEY,
        "created": CREATED,
    }
    return build_presentation(**{**arguments, **changes})  # type: ignore[arg-type]


def _graphics(state: Dataset, kind: str) -> list[list[float]]:
    return [
        list(graphic.GraphicData)
        for annotation in state.GraphicAnnotationSequence
        for graphic in annotation.get("GraphicObjectSequence") or []
        if graphic.GraphicType == kind
    ]


def _texts(state: Dataset) -> list[Dataset]:
    return [
        text for annotation in state.GraphicAnnotationSequence for text in annotation.get("TextObjectSequence") or []
    ]


def test_identity() -> None:
    state = _state()
    assert (state.SOPClassUID, state.Modality, state.StudyInstanceUID) == (PRESENTATION.sop_class, "PR", STUDY)
    assert (state.PatientID, str(state.PatientName)) == ("P-0001", "Test^Patient")
    assert state.SOPInstanceUID == KEY.uid("presentation")
    assert state.PresentationCreationDate == "20260304"
    assert is_own_result(state)


@pytest.mark.parametrize(
    ("detection", "header", "sop_class", "frame"),
    [(analysed(), classic(), MR, None), (analysed(frame_number=5), enhanced(), ENHANCED_MR, 5)],
)
def test_every_reference_is_to_the_slice(
    detection: Detection, header: Dataset, sop_class: str, frame: int | None
) -> None:
    state = _state(detection, header)
    (series,) = state.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == SERIES
    references = [*series.ReferencedImageSequence]
    references += [item for a in state.GraphicAnnotationSequence for item in a.ReferencedImageSequence]
    for item in references:
        assert (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) == (sop_class, SLICE)
        assert item.get("ReferencedFrameNumber") == frame


def test_points_count_from_the_corner_of_the_first_pixel() -> None:
    detection = analysed()
    points = sorted(_graphics(_state(detection), "POINT"), key=lambda p: p[1])
    expected = [[f.x + 0.5, f.y + 0.5] for f in detection.findings]
    np.testing.assert_allclose(points, expected, atol=1e-4)


def test_points_and_labels_stand_in_the_layer_of_their_class() -> None:
    detection = analysed()
    layers = {a.GraphicLayer: a for a in _state(detection).GraphicAnnotationSequence}
    for finding in detection.findings:
        annotation = layers[LAYERS[class_word(finding)][0]]
        (text,) = [t for t in annotation.TextObjectSequence if t.UnformattedTextValue.startswith(f"{finding.level} ")]
        assert class_word(finding) in text.UnformattedTextValue
        np.testing.assert_allclose(text.AnchorPoint, [finding.x + 0.5, finding.y + 0.5], atol=1e-4)


def test_only_layers_that_are_used_exist() -> None:
    decided = analysed()
    state = _state(decided)
    assert {layer.GraphicLayer for layer in state.GraphicLayerSequence} == {
        a.GraphicLayer for a in state.GraphicAnnotationSequence
    }
    assert [layer.GraphicLayerOrder for layer in state.GraphicLayerSequence] == [1, 2, 3, 4]


def test_labels_lie_inside_and_never_overlap() -> None:
    for width, height in ((256, 320), (40, 60)):
        source = volume(rows=height, columns=width)
        state = _state(analysed(width=width, height=height), volume=source)
        boxes = sorted(
            (*t.BoundingBoxTopLeftHandCorner, *t.BoundingBoxBottomRightHandCorner)[1:4:2]
            for t in _texts(state)
            if "AnchorPoint" in t
        )
        assert all(0 <= top < bottom <= height for top, bottom in boxes)
        assert all(first[1] <= second[0] + 1e-3 for first, second in pairwise(boxes))


def test_labels_of_crowded_points_at_the_edge_lie_inside_and_never_overlap() -> None:
    low = tuple(replace(f, y=315 + 0.4 * i) for i, f in enumerate(analysed().findings))
    state = _state(replace(analysed(), findings=low))
    boxes = [
        (t.BoundingBoxTopLeftHandCorner[1], t.BoundingBoxBottomRightHandCorner[1], t.UnformattedTextValue.split()[0])
        for t in _texts(state)
        if "AnchorPoint" in t
    ]
    assert all(first[1] <= second[0] + 1e-3 for first, second in pairwise(sorted(boxes)))
    assert max(bottom for _, bottom, _ in boxes) <= 320
    assert [level for _, _, level in sorted(boxes)] == [f.level for f in low]


def test_it_says_research_use() -> None:
    assert any(RESEARCH_USE in t.UnformattedTextValue for t in _texts(_state()))


def test_layer_colours_are_those_of_the_overlay() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    colours = (NORMAL_COLOUR, DEGENERATIVE_COLOUR, UNDECIDED_COLOUR, TEXT)
    for (_, values), colour in zip([*LAYERS.values(), NOTE_LAYER], colours, strict=True):
        pixel = ImageCms.Image.new("RGB", (1, 1), colour)
        raw = ImageCms.profileToProfile(pixel, srgb, lab, outputMode="LAB").tobytes()
        expected = [raw[0] * 100 / 255, *((v - 256 if v > 127 else v) for v in raw[1:3])]
        seen = [values[0] * 100 / 65535, *(v * 255 / 65535 - 128 for v in values[1:])]
        np.testing.assert_allclose(seen, expected, atol=1.5)


def test_the_series_own_window_is_kept() -> None:
    state = _state()
    assert "RescaleSlope" not in state
    (window,) = state.SoftcopyVOILUTSequence
    assert (float(window.WindowCenter), float(window.WindowWidth)) == (300.0, 600.0)
    assert state.PresentationLUTShape == "IDENTITY"


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_rescale_is_repeated(kind: str) -> None:
    """A viewer takes the modality LUT of the presentation state instead of the image's (PS3.4 N.2.1)."""
    if kind == "classic":
        detection, header = analysed(), classic(RescaleSlope="2.5", RescaleIntercept="-10")
    else:
        detection, header = analysed(frame_number=5), enhanced()
        item = Dataset()
        item.RescaleSlope, item.RescaleIntercept, item.RescaleType = "2.5", "-10", "US"
        header.PerFrameFunctionalGroupsSequence[4].PixelValueTransformationSequence = Sequence([item])
    state = _state(detection, header)
    assert (float(state.RescaleSlope), float(state.RescaleIntercept), state.RescaleType) == (2.5, -10.0, "US")


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (2.0, -7.0)])
def test_monochrome1_is_shown_with_its_own_polarity(slope: float, intercept: float) -> None:
    """The reader turns such an image about its stored range; the window must be that of the values as stored."""
    stored = np.full((320, 256), 4000.0, np.float32)
    stored[100:200, 100:150] = np.linspace(500, 1500, 50)
    turned = volume()
    turned.voxels[:] = slope * (4095 - stored) + intercept
    header = classic(PhotometricInterpretation="MONOCHROME1", BitsStored=12, PixelRepresentation=0)
    header.RescaleSlope, header.RescaleIntercept = str(slope), str(intercept)
    state = _state(header=header, volume=turned)
    assert state.PresentationLUTShape == "INVERSE"
    (window,) = state.SoftcopyVOILUTSequence
    low = float(window.WindowCenter) - float(window.WindowWidth) / 2
    high = low + float(window.WindowWidth)
    assert low == pytest.approx(slope * 500 + intercept, abs=120)
    assert high == pytest.approx(slope * 4000 + intercept, abs=20)


def test_a_narrow_range_uses_the_exact_function() -> None:
    narrow = volume()
    narrow.voxels[:] /= 1000
    (window,) = _state(volume=narrow).SoftcopyVOILUTSequence
    assert window.VOILUTFunction == "LINEAR_EXACT"
    assert 0 < float(window.WindowWidth) < 1


@pytest.mark.parametrize("kind", NAMES)
def test_names_survive(kind: str) -> None:
    state = pydicom.dcmread(BytesIO(to_bytes(_state(header=named(kind)))))
    assert str(state.PatientName) == NAMES[kind][1]


def test_equal_arguments_give_equal_bytes() -> None:
    assert to_bytes(_state()) == to_bytes(_state())


@pytest.mark.parametrize(
    "changes",
    [
        {"detection": refused()},
        {"header": classic(StudyInstanceUID="2.25.4")},
        {"slice_header": classic(StudyInstanceUID="2.25.4")},
        {"slice_header": classic(SOPInstanceUID="2.25.5")},
    ],
)
def test_what_does_not_belong_together_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not"):
        _state(**changes)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the gate

GOOD = {
    "classic": (analysed(), classic()),
    "enhanced": (analysed(frame_number=5), enhanced()),
    "poor": (analysed(), poor()),
    **{kind: (analysed(), named(kind)) for kind in NAMES},
}


@pytest.mark.parametrize("name", GOOD)
def test_good_states_pass_the_gate(name: str) -> None:
    assert check(_state(*GOOD[name])) == []


def _first_graphic(state: Dataset) -> Dataset:
    return state.GraphicAnnotationSequence[0].GraphicObjectSequence[0]


BROKEN: list[tuple[Callable[[Dataset], object], str]] = [
    (lambda d: setattr(d, "Modality", "OT"), "Modality: must be PR"),
    (lambda d: delattr(d, "PresentationCreationDate"), "PresentationCreationDate: missing"),
    (lambda d: delattr(d, "ContentCreatorName"), "ContentCreatorName: missing (type 2)"),
    (lambda d: delattr(d, "SoftcopyVOILUTSequence"), "SoftcopyVOILUTSequence: missing"),
    (lambda d: setattr(d, "PresentationLUTShape", "LINEAR"), "must be IDENTITY or INVERSE"),
    (lambda d: setattr(d.ReferencedSeriesSequence[0], "SeriesInstanceUID", ""), "not exactly one image"),
    (
        lambda d: d.ReferencedSeriesSequence[0].ReferencedImageSequence.append(
            copy.deepcopy(d.ReferencedSeriesSequence[0].ReferencedImageSequence[0])
        ),
        "not exactly one image",
    ),
    (
        lambda d: setattr(
            d.GraphicAnnotationSequence[0].ReferencedImageSequence[0], "ReferencedSOPInstanceUID", "2.25.9"
        ),
        "is about another image",
    ),
    (lambda d: setattr(_first_graphic(d), "GraphicData", [300.0, 4.0]), "outside its image"),
    (lambda d: setattr(_first_graphic(d), "GraphicData", [float("nan"), 4.0]), "outside its image"),
    (lambda d: d.GraphicAnnotationSequence[0].GraphicObjectSequence.pop(0), "not one labelled point"),
    (lambda d: d.GraphicAnnotationSequence[0].TextObjectSequence.pop(), "not one labelled point"),
    (lambda d: d.GraphicAnnotationSequence.pop(), "research use only"),
    (lambda d: d.GraphicLayerSequence.pop(), "layers and annotations differ"),
]


@pytest.mark.parametrize(("breakage", "message"), BROKEN)
def test_broken_states_are_caught(breakage: Callable[[Dataset], object], message: str) -> None:
    state = _state()
    breakage(state)
    problems = check(state)
    assert any(message in problem for problem in problems), problems
