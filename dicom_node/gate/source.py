"""Rules that compare an object with the images it was made of: it is theirs, whatever was done to it since.

What an object must say of patient and study is what the writing rule (`envelope.copy_patient_and_study`) makes of the
source header. So a value that cannot be written as it stands may differ from the source, but never by accident.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.gate.content_tree import children, reference, tree
from dicom_node.gate.problems import Problems, elements
from dicom_node.results.envelope import copy_patient_and_study
from dicom_node.results.image_library import frame_of_reference

# Attributes of Patient, General Study and Patient Study (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2) that an object may hold, and
# those that say how to read them. Every other attribute of group 0010 is the patient's too, and must be the source's.
PATIENT_AND_STUDY = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_PATIENT_GROUP = 0x0010
_FRAME_OF_REFERENCE = codes.DCM.FrameOfReferenceUID.value


@dataclass(frozen=True, slots=True)
class Source:
    """What an object was made of.

    Parameters
    ----------
    patient
        The header that says whose study it is.
    images
        The headers of the images that the object may point at.
    """

    patient: Dataset
    images: Sequence[Dataset] = field(default=())


def differences(dataset: Dataset, source: Source) -> list[str]:
    """Everything in which an object differs from its source, without values."""
    frames = {str(image.SOPInstanceUID): frame_of_reference(image) for image in [*source.images, source.patient]}
    problems = (
        _patient_and_study(dataset, source),
        _frames_of_reference(dataset, frames),
        _references(dataset, frames),
    )
    return [problem for found in problems for problem in found]


def _patient_and_study(dataset: Dataset, source: Source) -> Problems:
    wanted = _written(source.patient)
    patient = {e.keyword for part in (dataset, wanted) for e in part if e.tag.group == _PATIENT_GROUP and e.keyword}
    for keyword in sorted({*PATIENT_AND_STUDY, *patient}):
        if (keyword in dataset, dataset.get(keyword)) != (keyword in wanted, wanted.get(keyword)):
            yield f"{keyword}: differs from the source"


def _written(header: Dataset) -> Dataset:
    """What the writing rule makes of a source header, as a reader of a file sees it."""
    made = Dataset()
    copy_patient_and_study(header, made)
    made.SOPClassUID = made.SOPInstanceUID = "2.25.1"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return pydicom.dcmread(BytesIO(buffer.getvalue()))


def _frames_of_reference(dataset: Dataset, frames: Mapping[str, str]) -> Problems:
    """Each frame of reference that an object names is that of the image it speaks of."""
    if "FrameOfReferenceUID" in dataset and str(dataset.FrameOfReferenceUID) not in frames.values():
        yield "FrameOfReferenceUID: differs from the source"
    for item in tree(dataset):
        if item.get("ValueType") == "SCOORD3D" and str(item.ReferencedFrameOfReferenceUID) not in frames.values():
            yield "ReferencedFrameOfReferenceUID: differs from the source"
        # An image with a content of its own is an entry of the image library; it names its frame of reference if any.
        if item.get("ValueType") == "IMAGE" and "ContentSequence" in item:
            wanted = frames.get(str(reference(item).ReferencedSOPInstanceUID))
            if [str(named.UID) for named in children(item, _FRAME_OF_REFERENCE)] != ([wanted] if wanted else []):
                yield "frame of reference of an image: differs from the source"


def _references(dataset: Dataset, known: Container[str]) -> Problems:
    """An object points at images of its source and at nothing else, except at the report that it replaces."""
    for element in dataset:
        for inner in (
            elements(Dataset({element.tag: element})) if element.keyword != "PredecessorDocumentsSequence" else ()
        ):
            if inner.keyword == "ReferencedSOPInstanceUID" and str(inner.value) not in known:
                yield "refers to an image that is none of its source"
                return
