"""Rules for pictures (Secondary Capture): overlay, table and sheet."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.gate.every_object import body_part
from dicom_node.gate.problems import ObjectRules, Problems, wrong_values
from spineone_core.findings import RESEARCH_USE

_TYPE_1 = (
    "ContentDate",
    "ContentTime",
    "ConversionType",
    "ImageType",
    "DerivationDescription",
    "SourceImageSequence",
    "BurnedInAnnotation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "PixelData",
)
_SC_VALUES = {
    "SamplesPerPixel": 3,
    "PhotometricInterpretation": "RGB",
    "PlanarConfiguration": 0,
    "BitsAllocated": 8,
    "BitsStored": 8,
    "HighBit": 7,
    "PixelRepresentation": 0,
    "BurnedInAnnotation": "YES",
    "Modality": "OT",
}


def picture(dataset: Dataset) -> Problems:
    """The picture is 8-bit RGB, derived and complete; it has a spacing if something can be measured on it."""
    yield from wrong_values(dataset, _SC_VALUES)
    expected = int(dataset.Rows) * int(dataset.Columns) * 3
    if len(dataset.PixelData) != expected + expected % 2:
        yield "PixelData: length does not match Rows and Columns"
    spacing = [float(v) for v in dataset.get("PixelSpacing") or []]
    # Nothing can be measured on a table, which has no orientation either.
    if (dataset.PatientOrientation or spacing) and (len(spacing) != 2 or min(spacing) <= 0):
        yield "PixelSpacing: not two positive numbers"
    if list(dataset.ImageType)[:1] != ["DERIVED"]:
        yield "ImageType: a picture made by software is DERIVED"


def source(dataset: Dataset) -> Problems:
    """The picture names the images that it was made from, and says that it is for research use only."""
    for item in dataset.SourceImageSequence:
        if not (item.get("ReferencedSOPClassUID") and item.get("ReferencedSOPInstanceUID")):
            yield "SourceImageSequence: reference is incomplete"
    if RESEARCH_USE not in str(dataset.DerivationDescription):
        yield "DerivationDescription: does not say that this is for research use only"


RULES = ObjectRules(type_1=_TYPE_1, rules=(body_part, picture, source))
