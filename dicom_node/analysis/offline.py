"""`dicom-node process`: making results from DICOM files without network or database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from dicom_node.analysis.analyse import Analysis, analyse
from dicom_node.analysis.detector import StudyReader
from dicom_node.analysis.inputs import Input
from dicom_node.analysis.patient import TwoPatientsError
from dicom_node.analysis.products import Origin, Product, RefusedByGateError
from dicom_node.audit import message as audit_message
from dicom_node.audit.log import AuditLog, patient_in
from dicom_node.audit.message import DESTINATION, SOURCE, AuditedStudy
from dicom_node.audit.people import person
from dicom_node.dicom.headers import is_valid_uid
from dicom_node.dicom.identifiers import ResultKey, is_own_result
from dicom_node.results.kinds import ALTERNATIVES, FINDINGS
from dicom_node.settings.node import NodeSettings
from dicom_node.system.files import make_folder, safe_path, sha256_of
from dicom_node.system.log import describe, get_logger
from spineone_core.findings import Detection, Reason
from spineone_core.imaging.files import find_files, read_dataset


@dataclass(frozen=True, slots=True)
class Found:
    """The studies among some files, and the files that belong to none, each with the reason."""

    studies: dict[str, list[Input]]
    skipped: list[tuple[Path, str]]


def find_studies(paths: Sequence[Path]) -> Found:
    """Sort files by study; our own results and later copies of an instance are left out."""
    found = Found({}, [])
    seen: set[str] = set()
    for path in find_files(paths):
        try:
            study_uid, entry = _read(path)
            if entry.sop_instance_uid in seen:
                raise ValueError("another file holds the same SOP instance")
        except (ValueError, OSError) as error:
            found.skipped.append((path, str(error)))
            continue
        except Exception as error:  # a header may be broken in many ways; the other files do not suffer from it
            found.skipped.append((path, f"cannot be read: {describe(error)}"))
            continue
        seen.add(entry.sop_instance_uid)
        found.studies.setdefault(study_uid, []).append(entry)
    return found


def _read(path: Path) -> tuple[str, Input]:
    header = read_dataset(path, pixels=False)
    study_uid, uid = str(header.get("StudyInstanceUID") or ""), str(header.SOPInstanceUID)
    if not is_valid_uid(study_uid) or not is_valid_uid(uid):
        raise ValueError("StudyInstanceUID or SOPInstanceUID is missing or malformed")
    if is_own_result(header):
        raise ValueError("a result of this node")
    return study_uid, Input(path, uid, str(header.get("SOPClassUID") or ""), sha256_of(path))


def process_study(
    detector: StudyReader, study_uid: str, inputs: Sequence[Input], settings: NodeSettings, out: Path, now: datetime
) -> Analysis:
    """Analyse one study and write its files to ``out/<study uid>``.

    The time of the run is written into the objects, so their UIDs depend on it: every run makes new ones. Whatever is
    wrong with a study, it ends in a result or in a refusal with a coded reason, whose only file are the findings.

    Raises
    ------
    OSError
        If the files cannot be written.
    """
    try:
        analysis = analyse(detector, study_uid, inputs, settings, created=now)
    except TwoPatientsError as error:
        analysis = _failed(detector, study_uid, inputs, Reason.TWO_PATIENTS, str(error), now)
    except RefusedByGateError as error:
        analysis = _failed(detector, study_uid, inputs, Reason.UNWRITABLE, str(error), now)
    except Exception as error:  # one study must not end the batch
        get_logger().exception("analysis_failed", study_uid=study_uid)
        analysis = _failed(detector, study_uid, inputs, Reason.ANALYSIS_FAILED, describe(error), now)
    folder = safe_path(out, study_uid)
    make_folder(folder.resolve())
    for product in analysis.products:
        # A person who sends the folder on must not send the report twice.
        if product.role not in ALTERNATIVES.values():
            safe_path(folder, product.name).write_bytes(product.data)
    return analysis


def _failed(
    detector: StudyReader, study_uid: str, inputs: Sequence[Input], reason: Reason, detail: str, now: datetime
) -> Analysis:
    """A refusal of which there is nothing but the findings."""
    detection = Detection.refused(detector.identity, study_uid, reason, detail)
    contents = tuple((i.sop_instance_uid, i.sha256) for i in inputs)
    key = ResultKey(study_uid, contents, detector.identity.digest, "", now.isoformat())
    findings = Product(FINDINGS.role, FINDINGS.file_name, (Origin().findings(detection) + "\n").encode())
    return Analysis(detection, key, (findings,))


def audit_offline(
    settings: NodeSettings, study_uid: str, inputs: Sequence[Input], analysis: Analysis, out: Path
) -> None:
    """Record in the node's audit log that a study was read from files, and where its results went."""
    audit = AuditLog(settings)
    patient = patient_in(inputs[0].path) if settings.audit.patient else None
    # A folder's name may be a patient's.
    source = inputs[0].path.resolve().parent.as_uri() if settings.audit.patient else "file:"
    read = AuditedStudy(study_uid, Counter(i.sop_class_uid for i in inputs if i.sop_class_uid), patient)
    made = AuditedStudy(study_uid, Counter(p.sop_class_uid for p in analysis.products if p.sop_class_uid), patient)
    who = person()
    audit.record(audit_message.imported([replace(who, role=DESTINATION)], source, [read]))
    audit.record(audit_message.exported([replace(who, role=SOURCE)], out.resolve().as_uri(), [made]))
