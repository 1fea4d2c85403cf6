"""Rules for every structured document: its evidence, and the words that it must contain."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.gate.content_tree import reference, texts, tree
from dicom_node.gate.problems import Problems
from spineone_core.findings import RESEARCH_USE


def evidence(dataset: Dataset) -> Problems:
    """The evidence belongs to the document's own study and lists every image that the content refers to."""
    for study in dataset.CurrentRequestedProcedureEvidenceSequence:
        if study.StudyInstanceUID != dataset.StudyInstanceUID:
            yield "CurrentRequestedProcedureEvidenceSequence: names another study"
        if not all(series.get("SeriesInstanceUID") for series in study.ReferencedSeriesSequence):
            yield "CurrentRequestedProcedureEvidenceSequence: a series has no UID"
    listed = _evidence_uids(dataset)
    for item in tree(dataset):
        if item.get("ValueType") == "IMAGE" and reference(item).ReferencedSOPInstanceUID not in listed:
            yield "content refers to an image that is not listed as evidence"


def _evidence_uids(dataset: Dataset) -> set[str]:
    return {
        str(reference.ReferencedSOPInstanceUID)
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


def words(dataset: Dataset) -> Problems:
    """One text says that the document is for research use only."""
    if not any(RESEARCH_USE in text for text in texts(dataset)):
        yield "content: does not say that this is for research use only"
