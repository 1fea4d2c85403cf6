"""The FHIR form of a report says what the Structured Report says, and is valid by the R4 schema."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.results import codes
from dicom_node.results.diagnostic_report import SYSTEMS, IdentifierSystems, report_bundle
from dicom_node.results.sr_document import Predecessor
from spineone_core.anatomy import READING_ORDER
from spineone_core.findings import RESEARCH_USE, Detection, Reason
from tests.fakes.fhir_schema import problems
from tests.unit.results.test_report import _graded, _report
from tests.unit.synthetic import CREATED, STUDY, analysed, classic, poor, refused

ISSUED = CREATED.replace(tzinfo=UTC)
SITE = IdentifierSystems("urn:oid:2.999.1", "https://hospital.example/accession")


def bundle_of(detection: Detection, header: Dataset | None = None, *, grades: bool = False, **changes: Any) -> Any:
    report = _report(detection, header, grades=grades, **changes)
    made = report_bundle(report=report, detection=detection, issued=ISSUED, systems=SITE, grades=grades)
    assert json.loads(json.dumps(made)) == made
    return report, made


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def code_of(concept: dict[str, Any]) -> tuple[str, str]:
    (coding,) = concept["coding"]
    return coding["system"], coding["code"]


def test_ten_findings_are_ten_observations_with_the_codes_of_the_report() -> None:
    detection = analysed()
    report, bundle = bundle_of(detection)
    assert problems(bundle) == []
    (diagnostic,) = resources(bundle, "DiagnosticReport")
    observations = resources(bundle, "Observation")
    assert len(observations) == len(READING_ORDER)
    for observation, finding in zip(observations, detection.findings, strict=True):
        site = codes.SITES[finding.level]
        assert code_of(observation["bodySite"]) == ("http://snomed.info/sct", site.value)
        assert code_of(observation["code"]) == ("http://dicom.nema.org/resources/ontology/DCM", codes.NORMALITY.value)
        expected = codes.UNDETERMINED if not finding.decided else (
            codes.ABNORMAL if finding.probability >= 0.5 else codes.NORMAL
        )  # fmt: skip
        assert code_of(observation["valueCodeableConcept"]) == ("http://snomed.info/sct", expected.value)
        values = {code_of(c["code"])[1]: c["valueQuantity"]["value"] for c in observation["component"]}
        assert values["DEGENPROB"] == pytest.approx(100 * finding.probability, abs=1e-4)
        assert (codes.CERTAINTY.value in values) == finding.decided
        assert observation["note"] == [{"text": RESEARCH_USE}]
    assert {resource["status"] for resource in (diagnostic, *observations)} == {"preliminary"}
    assert diagnostic["identifier"] == [{"system": "urn:dicom:uid", "value": f"urn:oid:{report.SOPInstanceUID}"}]
    assert diagnostic["imagingStudy"][0]["identifier"] == {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY}"}
    assert RESEARCH_USE in diagnostic["conclusion"]


def test_report_refers_to_its_observations_and_each_is_made_only_once() -> None:
    _, bundle = bundle_of(analysed())
    *observations, report = bundle["entry"]
    full = [entry["fullUrl"] for entry in observations]
    assert [result["reference"] for result in report["resource"]["result"]] == full
    assert len({entry["fullUrl"] for entry in bundle["entry"]}) == 11
    for entry in bundle["entry"]:
        (identifier,) = entry["resource"]["identifier"]
        assert entry["request"] == {
            "method": "POST",
            "url": entry["resource"]["resourceType"],
            "ifNoneExist": f"identifier={identifier['system']}|{identifier['value']}",
        }


def test_equal_reports_are_equal_bundles_and_another_report_has_other_identifiers() -> None:
    _, first = bundle_of(analysed())
    _, again = bundle_of(analysed())
    _, other = bundle_of(analysed(), predecessor=Predecessor("1.2.840.10008.5.1.4.1.1.88.34", "2.25.77", "2.25.78"))
    assert first == again
    assert not {e["request"]["ifNoneExist"] for e in first["entry"]} & {
        e["request"]["ifNoneExist"] for e in other["entry"]
    }
    assert "Replaces an earlier report" in resources(other, "DiagnosticReport")[0]["conclusion"]


@pytest.mark.parametrize("reason", Reason)
def test_not_analysable__a_report_with_the_reason_and_no_observation(reason: Reason) -> None:
    _, bundle = bundle_of(refused(reason))
    assert problems(bundle) == []
    (entry,) = bundle["entry"]
    assert "result" not in entry["resource"]
    assert f"[{reason.value}]: {reason.text}" in entry["resource"]["conclusion"]


def test_patient_and_order_by_the_site_s_identifiers() -> None:
    header = copy.deepcopy(classic())
    header.PatientID, header.AccessionNumber, header.StudyDate = " P-1 ", "A-7", "20240131"
    _, bundle = bundle_of(analysed(), header)
    assert problems(bundle) == []
    (report,) = resources(bundle, "DiagnosticReport")
    assert report["subject"] == {"type": "Patient", "identifier": {"system": SITE.patient, "value": "P-1"}}
    assert report["basedOn"][0]["identifier"]["value"] == "A-7"
    assert report["basedOn"][0]["identifier"]["system"] == SITE.accession
    assert report["effectiveDateTime"] == "2024-01-31"
    assert {o["subject"]["identifier"]["value"] for o in resources(bundle, "Observation")} == {"P-1"}
    assert "PatientName" not in json.dumps(bundle)
    assert str(header.PatientName) not in json.dumps(bundle)


def test_what_the_images_do_not_say_is_left_out() -> None:
    _, bundle = bundle_of(analysed(), poor())
    assert problems(bundle) == []
    header = copy.deepcopy(classic())
    header.PatientID = header.AccessionNumber = header.StudyDate = ""
    _, bundle = bundle_of(analysed(), header)
    assert problems(bundle) == []
    for resource in (entry["resource"] for entry in bundle["entry"]):
        assert not {"subject", "basedOn", "effectiveDateTime"} & set(resource)


def test_grades_and_signs_stand_where_the_site_wants_them() -> None:
    def components(*, grades: bool) -> set[str]:
        _, bundle = bundle_of(_graded(), grades=grades)
        assert problems(bundle) == []
        return {code_of(c["code"])[1] for o in resources(bundle, "Observation") for c in o["component"]}

    assert components(grades=True) - components(grades=False) == {"PFIRRMANN", "NARROWPROB", "MODICPROB"}


def test_every_coding_scheme_of_the_codes_has_a_system() -> None:
    used = [codes.TITLE, codes.NORMALITY, codes.CERTAINTY, codes.PROBABILITY, codes.PFIRRMANN, codes.PERCENT]
    used += [codes.NORMAL, codes.ABNORMAL, codes.UNDETERMINED, *codes.SIGNS.values(), *codes.SITES.values()]
    assert {code.scheme_designator for code in used} == set(SYSTEMS)


def test_arguments_that_do_not_fit_are_refused() -> None:
    report = _report(analysed())
    with pytest.raises(ValueError, match="another study"):
        report_bundle(report=report, detection=replace(analysed(), study_uid="1.2"), issued=ISSUED, systems=SITE)
    with pytest.raises(ValueError, match="zone"):
        report_bundle(report=report, detection=analysed(), issued=ISSUED.replace(tzinfo=None), systems=SITE)


def test_the_schema_finds_what_is_wrong() -> None:
    """The judge judges: a schema that takes everything would make the other tests here say nothing."""
    _, bundle = bundle_of(analysed())
    for change in ({"status": "done"}, {"unknown": 1}, {"issued": "yesterday"}, {"component": [{}]}):
        broken = copy.deepcopy(bundle)
        broken["entry"][0]["resource"] |= change
        assert problems(broken) != [], change
