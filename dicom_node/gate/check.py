"""The check before anything is sent: a result that fails here never reaches a PACS.

It reads the object from its bytes, as its receiver will, and knows only what the standard and our templates demand, and
what the source says of patient and study. Messages name attributes and rules, never values of patient attributes.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.gate import key_object, presentation, report, secondary_capture
from dicom_node.gate.every_object import dates, equipment, file_meta, sequences, terms, uids, values
from dicom_node.gate.problems import ObjectRules, Problems, Rule
from dicom_node.gate.source import Source, differences
from dicom_node.results import kinds
from dicom_node.results.envelope import settled

_TYPE_1 = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "InstanceNumber",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "SeriesDescription",
    "ContributingEquipmentSequence",
)
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)

# The rules for each class that this node writes, besides those for every object.
RULES_OF: dict[str, ObjectRules] = {
    kinds.REPORT.sop_class: report.RULES,
    kinds.REPORT_2D.sop_class: report.RULES,
    # All pictures have one class.
    kinds.OVERLAY.sop_class: secondary_capture.RULES,
    kinds.PRESENTATION.sop_class: presentation.RULES,
    kinds.KEY_OBJECT.sop_class: key_object.RULES,
}


def check(dataset: Dataset) -> list[str]:
    """Everything that is wrong with a result; empty if it may be sent.

    No content of an object makes it raise an error.
    """
    try:
        read = settled(dataset)
    except Exception as error:  # an object that cannot be written can fail in any way
        return [f"cannot be written and read back: {type(error).__name__}"]
    problems: list[str] = []
    for rule in _rules(str(read.get("SOPClassUID", ""))):
        try:
            problems += rule(read)
        except Exception as error:  # a broken structure is itself the finding
            problems.append(f"{rule.__name__.strip('_')}: structure is broken ({type(error).__name__})")
    return problems


def check_with_source(dataset: Dataset, source: Source) -> list[str]:
    """As `check`, and everything in which a result differs from what it was made of: patient, study, geometry."""
    problems = check(dataset)
    try:
        problems += differences(settled(dataset), source)
    except Exception as error:  # as above; an object that is not compared is not sent
        problems.append(f"source: cannot be compared ({type(error).__name__})")
    return problems


def _rules(sop_class: str) -> tuple[Rule, ...]:
    own = RULES_OF[sop_class].rules if sop_class in RULES_OF else ()
    return (_class, file_meta, _presence, uids, values, terms, sequences, dates, equipment, *own)


def _class(dataset: Dataset) -> Problems:
    if dataset.get("SOPClassUID") not in RULES_OF:
        yield "SOPClassUID: not a class that this node writes"


def _presence(dataset: Dataset) -> Problems:
    own = RULES_OF.get(str(dataset.get("SOPClassUID", "")), ObjectRules())
    for keyword in (*_TYPE_1, *own.type_1):
        if keyword not in dataset or dataset[keyword].is_empty:
            yield f"{keyword}: missing or empty (type 1)"
    for keyword in (*_TYPE_2, *own.type_2):
        if keyword not in dataset:
            yield f"{keyword}: missing (type 2)"
