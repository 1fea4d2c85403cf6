"""Rules for key object notes (TID 2010)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.gate.content_tree import code_of
from dicom_node.gate.documents import evidence, words
from dicom_node.gate.problems import ObjectRules, Problems, wrong_values
from dicom_node.results import key_object

_TYPE_1 = (
    "ContentDate",
    "ContentTime",
    "CurrentRequestedProcedureEvidenceSequence",
    "ValueType",
    "ContinuityOfContent",
    "ConceptNameCodeSequence",
    "ContentTemplateSequence",
    "ContentSequence",
)
_TYPE_2 = ("ReferencedPerformedProcedureStepSequence",)


def key_image(dataset: Dataset) -> Problems:
    """The note follows TID 2010 and points at one image."""
    yield from wrong_values(dataset, {"Modality": "KO", "ValueType": "CONTAINER"})
    template = dataset.ContentTemplateSequence[0].TemplateIdentifier
    if code_of(dataset) != key_object.TITLE.value or template != "2010":
        yield "root: not a key object selection of TID 2010"
    if len([item for item in dataset.ContentSequence if item.ValueType == "IMAGE"]) != 1:
        yield "content: not exactly one image"


RULES = ObjectRules(type_1=_TYPE_1, type_2=_TYPE_2, rules=(evidence, key_image, words))
