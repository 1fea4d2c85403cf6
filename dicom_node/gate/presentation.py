"""Rules for presentation states (GSPS)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.gate.every_object import body_part
from dicom_node.gate.problems import ObjectRules, Problems, wrong_values
from dicom_node.results.codes import SITES_IN_READING_ORDER
from spineone_core.findings import RESEARCH_USE

_TYPE_1 = (
    "PresentationCreationDate",
    "PresentationCreationTime",
    "ContentLabel",
    "ReferencedSeriesSequence",
    "DisplayedAreaSelectionSequence",
    "GraphicAnnotationSequence",
    "GraphicLayerSequence",
    "SoftcopyVOILUTSequence",
    "PresentationLUTShape",
)
_TYPE_2 = ("ContentDescription", "ContentCreatorName")


def presented_image(dataset: Dataset) -> Problems:
    """The state refers to one image of one series, and everything in it is about that image."""
    yield from wrong_values(dataset, {"Modality": "PR"})
    if dataset.PresentationLUTShape not in ("IDENTITY", "INVERSE"):
        yield "PresentationLUTShape: must be IDENTITY or INVERSE"
    images = [i for series in dataset.ReferencedSeriesSequence for i in series.ReferencedImageSequence]
    if len(images) != 1 or not all(series.get("SeriesInstanceUID") for series in dataset.ReferencedSeriesSequence):
        yield "ReferencedSeriesSequence: not exactly one image of one series"
        return
    if not (images[0].get("ReferencedSOPClassUID") and images[0].get("ReferencedSOPInstanceUID")):
        yield "ReferencedSeriesSequence: reference is incomplete"
    for annotation in dataset.GraphicAnnotationSequence:
        if [i for i in annotation.ReferencedImageSequence if i != images[0]]:
            yield "GraphicAnnotationSequence: is about another image"


def annotated_points(dataset: Dataset) -> Problems:
    """There are ten labelled points inside the image, and every layer is used."""
    area = dataset.DisplayedAreaSelectionSequence[0].DisplayedAreaBottomRightHandCorner
    graphics = [g for a in dataset.GraphicAnnotationSequence for g in a.get("GraphicObjectSequence") or []]
    texts = [t for a in dataset.GraphicAnnotationSequence for t in a.get("TextObjectSequence") or []]
    points = [tuple(g.GraphicData) for g in graphics if g.GraphicType == "POINT"]
    anchors = [tuple(t.AnchorPoint) for t in texts if "AnchorPoint" in t]
    if len(points) != len(SITES_IN_READING_ORDER) or sorted(points) != sorted(anchors):
        yield "GraphicAnnotationSequence: not one labelled point for each of the ten levels"
    for graphic in graphics:
        if not all(0 <= float(v) <= area[i % 2] for i, v in enumerate(graphic.GraphicData)):
            yield "GraphicAnnotationSequence: a graphic lies outside its image"
    layers = {layer.GraphicLayer for layer in dataset.GraphicLayerSequence}
    if layers != {annotation.GraphicLayer for annotation in dataset.GraphicAnnotationSequence}:
        yield "GraphicLayerSequence: layers and annotations differ"


def notes(dataset: Dataset) -> Problems:
    """One text says that the annotations are for research use only."""
    texts = [
        t.UnformattedTextValue for a in dataset.GraphicAnnotationSequence for t in a.get("TextObjectSequence") or []
    ]
    if not any(RESEARCH_USE in str(text) for text in texts):
        yield "GraphicAnnotationSequence: does not say that this is for research use only"


RULES = ObjectRules(type_1=_TYPE_1, type_2=_TYPE_2, rules=(body_part, presented_image, annotated_points, notes))
