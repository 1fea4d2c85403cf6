"""Coded concepts of our reports (PS3.16) and our own coding scheme."""

from __future__ import annotations

from highdicom.sr import (
    CodedConcept,
)

from spineone_core.anatomy import READING_ORDER

CODING_SCHEME = "99SPINEONE"


def coded(value: str, scheme: str, meaning: str) -> CodedConcept:
    """A coded concept (PS3.3 8)."""
    return CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)


TITLE = coded("126000", "DCM", "Imaging Measurement Report")
LANGUAGE = coded("en-US", "RFC5646", "English (United States)")
PROCEDURE = coded("25056-3", "LN", "MRI unspecified body region")
LUMBAR_SPINE = coded("122496007", "SCT", "Lumbar spine")
NORMALITY = coded("121402", "DCM", "Normality")
NORMAL = coded("17621005", "SCT", "Normal")
ABNORMAL = coded("263654008", "SCT", "Abnormal")
UNDETERMINED = coded("371934000", "SCT", "Normality Undetermined")
CERTAINTY = coded("111012", "DCM", "Certainty of Finding")
PROBABILITY = coded("DEGENPROB", CODING_SCHEME, "Probability of degeneration")
PERCENT = coded("%", "UCUM", "Percent")
COMMENT = coded("121106", "DCM", "Comment")
SUMMARY_OF_ANALYSES = coded("111065", "DCM", "Summary of Analyses")
FAILED = coded("111224", "DCM", "Failed")
NOT_ATTEMPTED = coded("111225", "DCM", "Not Attempted")

# CID 7603 and CID 7604. 75782005 ("disc of fifth lumbar vertebra") is in neither: L5-S1 is 715056000.
SITES = {
    "L1": coded("66794005", "SCT", "L1 vertebra"),
    "L2": coded("14293000", "SCT", "L2 vertebra"),
    "L3": coded("36470004", "SCT", "L3 vertebra"),
    "L4": coded("11994002", "SCT", "L4 vertebra"),
    "L5": coded("49668003", "SCT", "L5 vertebra"),
    "L1-L2": coded("80064006", "SCT", "L1/L2 disc"),
    "L2-L3": coded("67459009", "SCT", "L2/L3 disc"),
    "L3-L4": coded("62551000", "SCT", "L3/L4 disc"),
    "L4-L5": coded("84020006", "SCT", "L4/L5 disc"),
    "L5-S1": coded("715056000", "SCT", "L5/S1 disc"),
}

SITES_IN_READING_ORDER = tuple(SITES[landmark.level] for landmark in READING_ORDER)

PIXELS = coded("{pixels}", "UCUM", "Pixels")
MILLIMETRE = coded("mm", "UCUM", "mm")
COSINE = coded("{-1:1}", "UCUM", "{-1:1}")
MODALITIES = {
    "MR": coded("MR", "DCM", "Magnetic Resonance"),
    "CT": coded("CT", "DCM", "Computed Tomography"),
    "OT": coded("OT", "DCM", "Other Modality"),
}
