"""The findings as Grayscale Softcopy Presentation State (PS3.3 A.33.1): points and labels that a viewer lays over the
slice.

The image itself is left alone: a viewer can switch the annotations off, layer by layer, and each class has a layer.
"""

from __future__ import annotations

from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.dicom.identifiers import ResultKey
from dicom_node.dicom.sop_classes import image_class
from dicom_node.results.envelope import plain, processing_equipment, settled, start_result
from dicom_node.results.kinds import PRESENTATION
from spineone_core.drawing.overlay import spread
from spineone_core.drawing.slices import display_window, percentile_window, slice_index
from spineone_core.drawing.style import class_word
from spineone_core.findings import RESEARCH_USE, Detection, Finding
from spineone_core.imaging.pixels import rescale_of
from spineone_core.imaging.volume import SagittalVolume, SliceSource

CONTENT_LABEL = "SPINEONE"

# The layer of each class and its colour (that of the overlay) as the CIELab values of PS3.3 C.10.7.1.1.
LAYERS = {
    "normal": ("NORMAL", [45400, 28579, 23766]),
    "degenerative": ("DEGENERATIVE", [46653, 38053, 52082]),
    "undecided": ("UNDECIDED", [52824, 32896, 32896]),
}
NOTE_LAYER = ("NOTE", [60704, 32856, 32333])

_RADIUS_MM = 2.5
# A label: the distance of its nearest edge from its point (beyond the vertebral body), and its size.
_LABEL_DISTANCE_MM, _LABEL_WIDTH_MM, _LABEL_HEIGHT_MM = 24.0, 46.0, 6.0


def build_presentation(
    *,
    detection: Detection,
    volume: SagittalVolume,
    header: Dataset,
    slice_header: Dataset,
    key: ResultKey,
    created: datetime,
) -> Dataset:
    """The presentation state of the analysed slice; equal arguments give equal bytes.

    ``header`` is any instance of the study, ``slice_header`` the image the findings lie on; ``created`` as in
    ``envelope.start_result``.

    Raises
    ------
    ValueError
        If the study was not analysed, or header, volume and detection do not belong together.
    """
    _check_arguments(detection, volume, header, slice_header)
    state = start_result(header, PRESENTATION, key=key, created=created)
    state.ContributingEquipmentSequence = Sequence([processing_equipment(detection.model, created)])
    index = slice_index(volume, detection)
    _add_identification(state)
    _add_relationship(state, volume, volume.sources[index])
    _add_displayed_area(state, volume)
    _add_grey_scale(state, volume, index, slice_header)
    _add_annotations(state, volume, volume.sources[index], detection)
    return settled(state)


def _check_arguments(detection: Detection, volume: SagittalVolume, header: Dataset, slice_header: Dataset) -> None:
    if not detection.analysed:
        raise ValueError("a study that was not analysed has nothing to annotate")
    studies = {detection.study_uid, volume.study_uid, *(str(h.get("StudyInstanceUID")) for h in (header, slice_header))}
    if len(studies) != 1:
        raise ValueError("headers, volume and detection are not of one study")
    if str(slice_header.get("SOPInstanceUID")) != detection.sop_instance_uid:
        raise ValueError("the slice header is not that of the slice the findings lie on")


def _add_identification(state: Dataset) -> None:
    """Presentation State Identification (PS3.3 C.11.10) in place of the dates of an image."""
    state.PresentationCreationDate, state.PresentationCreationTime = state.ContentDate, state.ContentTime
    del state.ContentDate, state.ContentTime
    state.ContentLabel = CONTENT_LABEL
    state.ContentDescription = "Lumbar findings. Research use only"
    state.ContentCreatorName = None
    state.BodyPartExamined = "LSPINE"


def _image_reference(source: SliceSource) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = image_class(source.sop_class_uid)
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    if source.frame_number is not None:
        item.ReferencedFrameNumber = source.frame_number
    return item


def _add_relationship(state: Dataset, volume: SagittalVolume, source: SliceSource) -> None:
    """Presentation State Relationship (PS3.3 C.11.11)."""
    series = Dataset()
    series.SeriesInstanceUID = source.series_uid or volume.series_uid
    series.ReferencedImageSequence = Sequence([_image_reference(source)])
    state.ReferencedSeriesSequence = Sequence([series])


def _add_displayed_area(state: Dataset, volume: SagittalVolume) -> None:
    """Displayed Area (PS3.3 C.10.4): the whole image, its pixels numbered from 1."""
    rows, columns = volume.voxels.shape[1:]
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [columns, rows]
    area.PresentationSizeMode = "SCALE TO FIT"
    area.PresentationPixelSpacing = [f"{value:.8f}" for value in volume.pixel_spacing]
    state.DisplayedAreaSelectionSequence = Sequence([area])


# ---------------------------------------------------------------- grey scale


def _add_grey_scale(state: Dataset, volume: SagittalVolume, index: int, header: Dataset) -> None:
    """Modality LUT, Softcopy VOI LUT and Softcopy Presentation LUT (PS3.3 C.11.1, C.11.8, C.11.6).

    A viewer uses these instead of the image's own (PS3.4 N.2.1), so rescale and polarity are repeated here.
    """
    slope, intercept = rescale_of(header, (volume.sources[index].frame_number or 1) - 1)
    if (slope, intercept) != (1.0, 0.0):
        state.RescaleIntercept, state.RescaleSlope, state.RescaleType = _ds(intercept), _ds(slope), "US"
    inverted = str(header.get("PhotometricInterpretation") or "") == "MONOCHROME1"
    low, high = _limits(volume, index, header, slope, intercept) if inverted else _window(volume, index)
    exact = high - low < 16
    window = Dataset()
    # PS3.3 C.11.2.1.2: the linear function counts steps, and the exact one counts values.
    window.WindowCenter = _ds((low + high) / 2 + (0 if exact else 0.5))
    window.WindowWidth = _ds(high - low + (0 if exact else 1))
    if exact:
        window.VOILUTFunction = "LINEAR_EXACT"
    state.SoftcopyVOILUTSequence = Sequence([window])
    state.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2)."""
    return f"{value:.9g}"


def _window(volume: SagittalVolume, index: int) -> tuple[float, float]:
    return display_window(volume.voxels[index], volume.window)


def _limits(volume: SagittalVolume, index: int, header: Dataset, slope: float, intercept: float) -> tuple[float, float]:
    """The limits of a MONOCHROME1 image as stored.

    The volume holds its values mirrored about the middle of the range.
    """
    low, high = percentile_window(volume.voxels[index])
    signed = bool(header.get("PixelRepresentation") or 0)
    total = -1 if signed else 2 ** int(header.get("BitsStored") or 16) - 1
    turned = slope * total + 2 * intercept
    return turned - high, turned - low


# ---------------------------------------------------------------- annotations


def _add_annotations(state: Dataset, volume: SagittalVolume, source: SliceSource, detection: Detection) -> None:
    """Graphic Annotation and Graphic Layer (PS3.3 C.10.5, C.10.7)."""
    words = [word for word in LAYERS if any(class_word(f) == word for f in detection.findings)]
    labels = _label_boxes(volume, detection.findings)
    annotations = []
    for word in words:
        chosen = [i for i, f in enumerate(detection.findings) if class_word(f) == word]
        item = _annotation(LAYERS[word][0], source)
        item.GraphicObjectSequence = Sequence(
            [graphic for i in chosen for graphic in _mark(detection.findings[i], volume)]
        )
        item.TextObjectSequence = Sequence([_label(detection.findings[i], labels[i]) for i in chosen])
        annotations.append(item)
    note = _annotation(NOTE_LAYER[0], source)
    note.TextObjectSequence = Sequence([_note(detection)])
    state.GraphicAnnotationSequence = Sequence([*annotations, note])
    state.GraphicLayerSequence = Sequence(
        [_layer(i, *pair) for i, pair in enumerate([*(LAYERS[w] for w in words), NOTE_LAYER], start=1)]
    )


def _annotation(layer: str, source: SliceSource) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = Sequence([_image_reference(source)])
    item.GraphicLayer = layer
    return item


def _layer(order: int, name: str, colour: list[int]) -> Dataset:
    item = Dataset()
    item.GraphicLayer = name
    item.GraphicLayerOrder = order
    item.GraphicLayerRecommendedDisplayCIELabValue = colour
    return item


def _mark(finding: Finding, volume: SagittalVolume) -> list[Dataset]:
    """The exact point and a small circle around it. PIXEL counts from the corner of the first pixel (PS3.3 C.10.5)."""
    x, y = finding.x + 0.5, finding.y + 0.5
    radius = _RADIUS_MM / volume.pixel_spacing[1]
    edge = x + radius if x + radius <= volume.voxels.shape[2] else x - radius
    return [_graphic("POINT", [x, y]), _graphic("CIRCLE", [x, y, edge, y])]


def _graphic(kind: str, data: list[float]) -> Dataset:
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = len(data) // 2
    item.GraphicData = data
    item.GraphicType = kind
    if kind == "CIRCLE":
        item.GraphicFilled = "N"
    return item


def _label_boxes(volume: SagittalVolume, findings: tuple[Finding, ...]) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each label: in front of the spine, inside the image and without overlap."""
    rows, columns = volume.voxels.shape[1:]
    row_mm, column_mm = volume.pixel_spacing
    width = min(_LABEL_WIDTH_MM / column_mm, columns)
    height = min(_LABEL_HEIGHT_MM / row_mm, rows / len(findings))
    side = 1 if volume.row_direction[1] < 0 else -1
    boxes = []
    middles = spread([f.y + 0.5 for f in findings], height, height / 2, rows - height / 2)
    for finding, middle in zip(findings, middles, strict=True):
        near = finding.x + 0.5 + side * _LABEL_DISTANCE_MM / column_mm
        left = min(max(near if side > 0 else near - width, 0), columns - width)
        top = middle - height / 2
        boxes.append((left, top, left + width, top + height))
    return boxes


def _label(finding: Finding, box: tuple[float, float, float, float]) -> Dataset:
    item = Dataset()
    item.BoundingBoxAnnotationUnits = item.AnchorPointAnnotationUnits = "PIXEL"
    item.UnformattedTextValue = label_text(finding)
    item.BoundingBoxTopLeftHandCorner = list(box[:2])
    item.BoundingBoxBottomRightHandCorner = list(box[2:])
    item.BoundingBoxTextHorizontalJustification = "RIGHT" if box[2] < finding.x else "LEFT"
    item.AnchorPoint = [finding.x + 0.5, finding.y + 0.5]
    item.AnchorPointVisibility = "Y"
    return item


def label_text(finding: Finding) -> str:
    """Level, class and probability of degeneration, such as ``"L4-L5 degenerative 98 %"``."""
    return f"{finding.level} {class_word(finding)} {100 * finding.probability:.0f} %"


def _note(detection: Detection) -> Dataset:
    """A note on what the annotations are, at the foot of the picture (DISPLAY units: shares of the displayed area)."""
    model = detection.model
    item = Dataset()
    item.BoundingBoxAnnotationUnits = "DISPLAY"
    item.UnformattedTextValue = plain(f"{RESEARCH_USE}. {model.name} {model.version}; %: probability of degeneration")
    item.BoundingBoxTopLeftHandCorner = [0.02, 0.95]
    item.BoundingBoxBottomRightHandCorner = [0.98, 0.99]
    item.BoundingBoxTextHorizontalJustification = "LEFT"
    return item
