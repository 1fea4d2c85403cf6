"""A detection as a FHIR R4 transaction: one DiagnosticReport with an Observation for each structure.

The codes are those of the Structured Report. Every resource is created only if none with its identifier exists, and the
identifiers follow from the report's SOP Instance UID: the same report sent again makes no second one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.valuerep import DA

from dicom_node.dicom.identifiers import MODEL_NAME, SOFTWARE_VERSION
from dicom_node.results.codes import (
    CERTAINTY,
    CODING_SCHEME,
    NORMALITY,
    PERCENT,
    PFIRRMANN,
    PFIRRMANN_GRADES,
    PROBABILITY,
    SIGNS,
    SITES,
    TITLE,
)
from dicom_node.results.report import normality
from dicom_node.results.wording import comment_lines
from spineone_core.findings import RESEARCH_USE, Detection, Finding

Resource = dict[str, Any]

# Of DICOM UIDs (FHIR R4, ImagingStudy.identifier), and of identifiers that are URIs.
UID_SYSTEM, URI_SYSTEM = "urn:dicom:uid", "urn:ietf:rfc:3986"
# By the coding schemes of DICOM (PS3.16 8; https://hl7.org/fhir/R4/terminologies-systems.html).
SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    CODING_SCHEME: "urn:uuid:5d0f2a7e-6c0b-5b1e-9a55-0f3c1c9b7d42",
}
_NAMESPACE = uuid.UUID("c7d2f2f4-1d6b-5f0e-8a43-3b7e7b0d9e11")


@dataclass(frozen=True, slots=True)
class IdentifierSystems:
    """URIs of the systems of the site's identifiers."""

    patient: str
    accession: str


def report_identifier(sop_instance_uid: str) -> Resource:
    """The identifier of the DiagnosticReport of a Structured Report."""
    return {"system": UID_SYSTEM, "value": f"urn:oid:{sop_instance_uid}"}


def report_bundle(
    *, report: Dataset, detection: Detection, issued: datetime, systems: IdentifierSystems, grades: bool = False
) -> Resource:
    """The transaction Bundle of one result; equal arguments give an equal Bundle.

    Parameters
    ----------
    report
        The Structured Report (its header is enough): patient, accession, study and UID are taken from it.
    detection
        Its outcome. One that is not analysable has no Observation, and the reason in its conclusion.
    issued
        Time of the job, timezone-aware.
    grades
        Whether Pfirrmann grades and signs are written, as in the report (``results.grades``).

    Raises
    ------
    ValueError
        If the report is of another study than the detection, or the time has no zone.
    """
    if str(report.StudyInstanceUID) != detection.study_uid:
        raise ValueError("the report is of another study than the detection")
    if issued.tzinfo is None:
        raise ValueError("the time needs a zone")
    uid = str(report.SOPInstanceUID)
    common = _common(report, detection, issued, systems)
    observations = [_observation(uid, finding, common, grades=grades) for finding in detection.findings]
    entries = [_entry(observation) for observation in observations]
    entries.append(_entry(_diagnostic_report(report, detection, common, systems, entries)))
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _common(report: Dataset, detection: Detection, issued: datetime, systems: IdentifierSystems) -> Resource:
    """What the report and its observations say alike."""
    common: Resource = {"status": "preliminary", "issued": issued.isoformat(timespec="seconds")}
    patient = str(report.get("PatientID") or "").strip()
    if patient:
        common["subject"] = {"type": "Patient", "identifier": {"system": systems.patient, "value": patient}}
    day = _day(report)
    return common | ({"effectiveDateTime": day} if day else {})


def _diagnostic_report(
    report: Dataset, detection: Detection, common: Resource, systems: IdentifierSystems, entries: list[Resource]
) -> Resource:
    accession = str(report.get("AccessionNumber") or "").strip()
    order = {
        "type": "ServiceRequest",
        "identifier": {
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
            "system": systems.accession,
            "value": accession,
        },
    }
    lines = comment_lines(detection, superseding="PredecessorDocumentsSequence" in report)
    return {
        "resourceType": "DiagnosticReport",
        "identifier": [report_identifier(str(report.SOPInstanceUID))],
        **({"basedOn": [order]} if accession else {}),
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}],
        "code": _concept(TITLE),
        **common,
        "performer": [{"display": f"{MODEL_NAME} {SOFTWARE_VERSION}"}],
        "imagingStudy": [_study(detection)],
        **({"result": [{"reference": entry["fullUrl"]} for entry in entries]} if entries else {}),
        "conclusion": "\n".join(lines),
    }


def _observation(report_uid: str, finding: Finding, common: Resource, *, grades: bool) -> Resource:
    value = f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{report_uid} {finding.landmark.name}')}"
    return {
        "resourceType": "Observation",
        "identifier": [{"system": URI_SYSTEM, "value": value}],
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "imaging"}]}
        ],
        "code": _concept(NORMALITY),
        **common,
        "performer": [{"display": f"{MODEL_NAME} {SOFTWARE_VERSION}"}],
        "valueCodeableConcept": _concept(normality(finding)),
        "note": [{"text": RESEARCH_USE}],
        "bodySite": _concept(SITES[finding.level]),
        "component": list(_components(finding, grades=grades)),
    }


def _components(finding: Finding, *, grades: bool) -> Iterator[Resource]:
    """The measurements and evaluations that the report has beside the normality."""
    yield _percent(PROBABILITY, finding.probability)
    if finding.decided:
        yield _percent(CERTAINTY, max(finding.probability, 1 - finding.probability))
    if grades:
        for name, probability in finding.signs:
            yield _percent(SIGNS[name], probability)
        if finding.pfirrmann is not None:
            grade = _concept(PFIRRMANN_GRADES[finding.pfirrmann.grade])
            yield {"code": _concept(PFIRRMANN), "valueCodeableConcept": grade}


def _percent(name: CodedConcept, value: float) -> Resource:
    unit = {"unit": "%", "system": SYSTEMS["UCUM"], "code": str(PERCENT.value)}
    return {"code": _concept(name), "valueQuantity": {"value": round(100 * value, 4), **unit}}


def _concept(code: CodedConcept) -> Resource:
    coding = {"system": SYSTEMS[code.scheme_designator], "code": str(code.value), "display": str(code.meaning)}
    return {"coding": [coding], "text": str(code.meaning)}


def _study(detection: Detection) -> Resource:
    identifier = {"system": UID_SYSTEM, "value": f"urn:oid:{detection.study_uid}"}
    return {"type": "ImagingStudy", "identifier": identifier}


def _entry(resource: Resource) -> Resource:
    (identifier,) = resource["identifier"]
    own = identifier["value"]
    full = own if own.startswith("urn:uuid:") else f"urn:uuid:{uuid.uuid5(_NAMESPACE, own)}"
    request = {
        "method": "POST",
        "url": resource["resourceType"],
        "ifNoneExist": f"identifier={identifier['system']}|{own}",
    }
    return {"fullUrl": full, "resource": resource, "request": request}


def _day(report: Dataset) -> str:
    """The date of the study; the time is left out, since without a zone it would be no FHIR time."""
    try:
        day = DA(str(report.get("StudyDate") or ""))
    except ValueError:
        return ""
    return day.isoformat() if day else ""
