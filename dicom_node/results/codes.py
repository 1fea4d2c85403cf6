"""Coded concepts of our reports: by name from pydicom's dictionary (PS3.16) if it holds them, otherwise spelled out.

The dictionary's names are used wherever value, scheme and meaning are what the standard prints. A test compares every
one of them with its text, so that another edition of the dictionary never changes a report unnoticed.
"""

from __future__ import annotations

from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from spineone_core.anatomy import READING_ORDER

CODING_SCHEME = "99SPINEONE"


def coded(value: str, scheme: str, meaning: str) -> CodedConcept:
    """A coded concept (PS3.3 8) that the dictionary does not hold, or holds with another meaning."""
    return CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)


TITLE = CodedConcept.from_code(codes.DCM.ImagingMeasurementReport)
LANGUAGE = coded("en-US", "RFC5646", "English (United States)")
PROCEDURE = CodedConcept.from_code(codes.LN.MRIUnspecifiedBodyRegion)
LUMBAR_SPINE = CodedConcept.from_code(codes.SCT.LumbarSpine)
NORMALITY = CodedConcept.from_code(codes.DCM.Normality)
NORMAL = CodedConcept.from_code(codes.SCT.Normal)
ABNORMAL = CodedConcept.from_code(codes.SCT.Abnormal)
UNDETERMINED = CodedConcept.from_code(codes.SCT.NormalityUndetermined)
CERTAINTY = CodedConcept.from_code(codes.DCM.CertaintyOfFinding)
PROBABILITY = coded("DEGENPROB", CODING_SCHEME, "Probability of degeneration")
PFIRRMANN = coded("PFIRRMANN", CODING_SCHEME, "Pfirrmann grade")
PFIRRMANN_GRADES = {k: coded(f"PFIRRMANN{k}", CODING_SCHEME, f"Pfirrmann grade {k}") for k in range(1, 6)}
# By the names in `findings.json`. Endplates of a disc are those that face it, those of a vertebra its own.
SIGNS = {
    "narrowing": coded("NARROWPROB", CODING_SCHEME, "Probability of disc narrowing"),
    "bulging": coded("BULGEPROB", CODING_SCHEME, "Probability of disc bulging"),
    "upper_endplate": coded("UPENDPROB", CODING_SCHEME, "Probability of upper endplate change"),
    "lower_endplate": coded("LOWENDPROB", CODING_SCHEME, "Probability of lower endplate change"),
    "modic": coded("MODICPROB", CODING_SCHEME, "Probability of Modic change"),
    "modic_above": coded("MODICABOVE", CODING_SCHEME, "Probability of Modic change at disc above"),
    "modic_below": coded("MODICBELOW", CODING_SCHEME, "Probability of Modic change at disc below"),
}
PERCENT = CodedConcept.from_code(codes.UCUM.Percent)
COMMENT = CodedConcept.from_code(codes.DCM.Comment)
COMMENTS = coded("C0034375", "UMLS", "Qualitative Evaluations")
SUMMARY_OF_ANALYSES = CodedConcept.from_code(codes.DCM.SummaryOfAnalyses)
FAILED = CodedConcept.from_code(codes.DCM.Failed)
NOT_ATTEMPTED = CodedConcept.from_code(codes.DCM.NotAttempted)

# CID 7603 and CID 7604. 75782005 ("disc of fifth lumbar vertebra") is in neither: L5-S1 is 715056000.
SITES = {
    "L1": CodedConcept.from_code(codes.SCT.L1Vertebra),
    "L2": CodedConcept.from_code(codes.SCT.L2Vertebra),
    "L3": CodedConcept.from_code(codes.SCT.L3Vertebra),
    "L4": CodedConcept.from_code(codes.SCT.L4Vertebra),
    "L5": CodedConcept.from_code(codes.SCT.L5Vertebra),
    "L1-L2": CodedConcept.from_code(codes.SCT.L1L2Disc),
    "L2-L3": CodedConcept.from_code(codes.SCT.L2L3Disc),
    "L3-L4": CodedConcept.from_code(codes.SCT.L3L4Disc),
    "L4-L5": CodedConcept.from_code(codes.SCT.L4L5Disc),
    "L5-S1": CodedConcept.from_code(codes.SCT.L5S1Disc),
}

SITES_IN_READING_ORDER = tuple(SITES[landmark.level] for landmark in READING_ORDER)

# The dictionary's meaning is "Source (attribute)".
SOURCE = coded("260753009", "SCT", "Source")
PIXELS = coded("{pixels}", "UCUM", "Pixels")
MILLIMETRE = CodedConcept.from_code(codes.UCUM.Millimeter)
COSINE = coded("{-1:1}", "UCUM", "{-1:1}")
MODALITIES = {
    "MR": CodedConcept.from_code(codes.DCM.MagneticResonance),
    "CT": CodedConcept.from_code(codes.DCM.ComputedTomography),
    "OT": CodedConcept.from_code(codes.DCM.OtherModality),
}
